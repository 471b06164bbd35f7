//! Several questions at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

struct Question<F: Future> {
    asked: Pin<Box<F>>,
    answer: Option<F::Output>,
}

/// Waits for all of them at once, and answers in their order. For a handful: each is polled
/// whenever any has something to tell.
pub(super) async fn at_once<F: Future>(questions: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let question = |asked| Question {
        asked: Box::pin(asked),
        answer: None,
    };
    let mut open: Vec<Question<F>> = questions.into_iter().map(question).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for question in open.iter_mut().filter(|open| open.answer.is_none()) {
            match question.asked.as_mut().poll(context) {
                Poll::Ready(answer) => question.answer = Some(answer),
                Poll::Pending => waiting = true,
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    open.into_iter().filter_map(|open| open.answer).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn none_waits_for_another_one_and_the_order_stays() {
        // Each ends only when all have begun.
        let barrier = Barrier::new(3);
        let questions = (0..3).map(|number| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                number
            }
        });
        assert_eq!(at_once(questions).await, [0, 1, 2]);
        assert!(
            at_once(Vec::<std::future::Ready<()>>::new())
                .await
                .is_empty()
        );
    }
}
