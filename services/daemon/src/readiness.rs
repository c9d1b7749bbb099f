//! What systemd is told: ready, alive, ending, and a line for `systemctl status`.

use sd_notify::NotifyState;
use std::time::Duration;

/// The line to systemd. Without one (tests, a terminal) everything here does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    watchdog: Option<Duration>,
}

impl Readiness {
    /// Reads what systemd asked for.
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) }
    }

    /// The service answers from now on.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The service answers no more.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// A line for people; only its first line counts.
    pub fn status(&self, line: &str) {
        // A line feed would begin another assignment.
        tell(&[NotifyState::Status(line.lines().next().unwrap_or_default())]);
    }

    /// How often [`Self::alive`] is due: half of what the unit's `WatchdogSec=` says; none without one.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 2)
    }

    /// The loop that does the work has come round. Never from a thread that only does this.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell; with it, the unit's time-outs say that nothing came.
    let _ = sd_notify::notify(state);
}
