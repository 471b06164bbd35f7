//! Guessing over many logins from one address.

use super::{PASSWORD, ann, lab, try_from};

#[tokio::test]
async fn an_address_has_so_many_attempts_over_all_logins() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    // Over both kinds of addresses, the second of which have a network each.
    for [first, same, other] in [
        ["198.51.100.1", "198.51.100.1", "198.51.100.2"],
        ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"],
    ] {
        let mut refused = None;
        for n in 0..30 {
            let reply = try_from(&lab.client, first, &format!("login{n}"), "wrong").await?;
            if reply.status == 429 {
                refused = Some((n, reply));
                break;
            }
            assert_eq!(reply.problem(401)?, "wrong_credentials");
        }
        let (after, reply) = refused.ok_or_else(|| anyhow::anyhow!("there was no end to it"))?;
        // One more comes back every three seconds.
        assert!((20..=23).contains(&after), "after {after}");
        assert_eq!(reply.problem(429)?, "too_many_attempts");
        assert!((1..=4).contains(&reply.header("retry-after").parse::<u8>()?));
        let reply = try_from(&lab.client, same, "ann", PASSWORD).await?;
        assert_eq!(reply.problem(429)?, "too_many_attempts");
        let reply = try_from(&lab.client, other, "ann", PASSWORD).await?;
        reply.expect(201)?;
    }
    Ok(())
}
