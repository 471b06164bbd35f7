//! The places of connections: how many there are, how many of them one address has, and who gives way.
//!
//! When all are taken, the connection that has waited for its peer for longest gives way to a
//! newcomer; of an address that has as many as it may, the one of its own. So whoever takes all
//! places keeps nobody out, unless the portal works for each of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::activity::Activity;
use crate::domain::session::Network;

/// Connections at a time.
const PLACES_MAX: usize = 1024;

/// Of one address (of IPv6: /64 network), a quarter.
const PLACES_OF_ADDRESS_MAX: usize = 256;

/// All places.
#[derive(Clone)]
pub(super) struct Places {
    held: Arc<Mutex<Held>>,
    /// A place is free, or its connection waits for its peer.
    changed: Arc<Notify>,
    of_address_max: usize,
}

#[derive(Default)]
struct Held {
    connections: HashMap<u64, Connection>,
    next: u64,
}

struct Connection {
    network: Network,
    activity: Arc<Activity>,
    give_way: oneshot::Sender<()>,
}

/// What came of asking for a place.
enum Asked {
    Given(Place),
    /// The address has as many as it may, and the portal works for each.
    Refused,
    /// The portal works for every connection.
    AllBusy,
}

impl Places {
    /// For clients that each have an address of their own.
    pub(super) fn of_clients() -> Self {
        Self::new(PLACES_OF_ADDRESS_MAX)
    }

    /// For a proxy, which brings everybody from one address.
    pub(super) fn of_proxy() -> Self {
        Self::new(PLACES_MAX)
    }

    fn new(of_address_max: usize) -> Self {
        Self {
            held: Arc::default(),
            changed: Arc::default(),
            of_address_max,
        }
    }

    /// A place for a newcomer, as soon as there is one; `None`: its address has enough.
    pub(super) async fn take(&self, address: IpAddr) -> Option<Place> {
        loop {
            match self.ask(address.into()) {
                Asked::Given(place) => return Some(place),
                Asked::Refused => return None,
                Asked::AllBusy => self.changed.notified().await,
            }
        }
    }

    fn ask(&self, network: Network) -> Asked {
        let mut held = self.held();
        let own = held.connections.values();
        let own = own.filter(|connection| connection.network == network);
        let has_enough = own.count() >= self.of_address_max;
        if has_enough && !held.make_room(|of| of == network) {
            return Asked::Refused;
        }
        if held.connections.len() >= PLACES_MAX && !held.make_room(|_| true) {
            return Asked::AllBusy;
        }
        let id = held.next;
        held.next += 1;
        let activity = Arc::new(Activity::new(Arc::clone(&self.changed)));
        let (give_way, displaced) = oneshot::channel();
        let connection = Connection {
            network,
            activity: Arc::clone(&activity),
            give_way,
        };
        held.connections.insert(id, connection);
        Asked::Given(Place {
            places: self.clone(),
            id,
            activity,
            displaced: Some(displaced),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Ends the connection that has waited for longest, among those of some addresses.
    fn make_room(&mut self, of: impl Fn(Network) -> bool) -> bool {
        let waiting = self.connections.iter().filter_map(|(id, connection)| {
            let since = connection.activity.waiting_since()?;
            of(connection.network).then_some((since, *id))
        });
        let longest = waiting.min();
        let gone = longest.and_then(|(_, id)| self.connections.remove(&id));
        let gone = gone.map(|connection| connection.give_way.send(()));
        // One that has ended meanwhile makes room as well.
        gone.is_some()
    }
}

/// The place of one connection.
pub(super) struct Place {
    places: Places,
    id: u64,
    activity: Arc<Activity>,
    displaced: Option<oneshot::Receiver<()>>,
}

impl Place {
    /// What goes on there.
    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Returns when the connection has to give way to a newcomer.
    pub(super) async fn displaced(&mut self) {
        if let Some(displaced) = &mut self.displaced {
            // The other end goes away only with this place, or after it has said so.
            displaced.await.ok();
            self.displaced = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().connections.remove(&self.id);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(third: u8, last: u8) -> IpAddr {
        IpAddr::from([192, 0, third, last])
    }

    fn given(places: &Places, address: IpAddr) -> Option<Place> {
        match places.ask(address.into()) {
            Asked::Given(place) => Some(place),
            Asked::Refused | Asked::AllBusy => None,
        }
    }

    fn has_to_go(place: &mut Place) -> bool {
        let displaced = place.displaced.as_mut();
        displaced.is_some_and(|displaced| displaced.try_recv().is_ok())
    }

    #[test]
    fn an_address_with_enough_makes_room_by_its_own_alone() {
        let places = Places::of_clients();
        let mut other = given(&places, address(1, 1)).unwrap();
        let mut own: Vec<_> = (0..PLACES_OF_ADDRESS_MAX)
            .map(|_| given(&places, address(2, 2)).unwrap())
            .collect();
        assert!(!own.iter_mut().any(has_to_go));
        let busy = own[0].activity().begin();
        let newcomer = given(&places, address(2, 2)).unwrap();
        assert!(has_to_go(&mut own[1]), "who waits for longest stayed");
        assert!(!has_to_go(&mut own[0]) && !has_to_go(&mut other));
        let all: Vec<_> = own
            .iter()
            .chain([&newcomer])
            .map(|place| place.activity().begin())
            .collect();
        assert!(given(&places, address(2, 2)).is_none());
        assert!(given(&places, address(1, 1)).is_some());
        drop((busy, all));
    }

    #[tokio::test]
    async fn nobody_gives_way_whom_the_portal_works_for() {
        let places = Places::of_proxy();
        let mut taken: Vec<_> = (0..PLACES_MAX)
            .map(|_| given(&places, address(3, 3)).unwrap())
            .collect();
        let mut busy: Vec<_> = taken.iter().map(|p| p.activity().begin()).collect();
        assert!(given(&places, address(4, 4)).is_none());
        // The first one whose answer waits for its peer.
        let newcomer = places.take(address(4, 4));
        let answered = async {
            tokio::task::yield_now().await;
            busy[7].request().turn(super::super::activity::Turn::Taker);
        };
        let (newcomer, ()) = tokio::join!(newcomer, answered);
        assert!(newcomer.is_some() && has_to_go(&mut taken[7]));
        busy.clear();
        drop(taken);
        assert_eq!(places.held().connections.len(), 1);
    }
}
