//! The order to stop, as the parts of the stand-ins see it.

use tokio::sync::watch;

/// Gives the order. Dropping it gives the order too, so no part outlives the one that started it.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<bool>);

/// Waits for the order.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

/// Makes the two ends.
pub(super) fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Tells every part to stop.
    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once the order is given.
    pub(super) async fn requested(&self) {
        // The error says that the other end is gone, which means the same.
        drop(self.0.clone().wait_for(|stopped| *stopped).await);
    }
}
