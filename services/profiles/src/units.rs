//! Units, over D-Bus: which there are, which run; starting and stopping.

use std::time::{Duration, Instant};
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// systemd answers at once, but while it boots or reloads.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// What a unit may take to start or stop: longer than Tor's own bootstrap of its listeners.
const UNIT_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a unit that is on its way.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Why a unit is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The bus, or systemd on it.
    #[error("systemd does not answer over D-Bus")]
    Bus(#[from] zbus::Error),
    /// It went elsewhere.
    #[error("{unit} is {state}, not {wanted}")]
    State {
        /// Which.
        unit: String,
        /// As systemd names it.
        state: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Is there such a unit, that is not masked?
    pub there: bool,
    /// `active`, `inactive`, …
    pub active: String,
}

/// How a unit stands.
///
/// # Errors
/// [`UnitError::Bus`].
pub fn look(unit: &str) -> Result<Seen, UnitError> {
    zbus::block_on(async { seen(&bus().await?, unit).await })
}

/// Starts a unit, and waits until it is active.
///
/// # Errors
/// [`UnitError`].
pub fn start(unit: &str) -> Result<(), UnitError> {
    zbus::block_on(to(unit, "StartUnit", "active", &["active"]))
}

/// Stops a unit, and waits until it is not active. One that is not there is not.
///
/// # Errors
/// [`UnitError`].
pub fn stop(unit: &str) -> Result<(), UnitError> {
    zbus::block_on(async {
        let bus = bus().await?;
        let now = seen(&bus, unit).await?;
        if ["inactive", "failed"].contains(&now.active.as_str()) {
            return Ok(());
        }
        to(unit, "StopUnit", "inactive", &["inactive", "failed"]).await
    })
}

async fn bus() -> Result<Connection, UnitError> {
    Ok(zbus::connection::Builder::system().method_timeout(ANSWER_TIME_MAX).build().await?)
}

async fn to(unit: &str, verb: &str, wanted: &'static str, good: &[&str]) -> Result<(), UnitError> {
    let bus = bus().await?;
    bus.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), verb, &(unit, "replace")).await?;
    let until = Instant::now() + UNIT_TIME_MAX;
    // A unit that is asked to start may be seen as it was for a moment.
    let mut failed_looks = 0;
    loop {
        let state = seen(&bus, unit).await?.active;
        if good.contains(&state.as_str()) {
            return Ok(());
        }
        let on_its_way = ["activating", "deactivating", "reloading"].contains(&state.as_str());
        failed_looks = if on_its_way { 0 } else { failed_looks + 1 };
        if failed_looks > JOB_LOOKS_MAX || Instant::now() > until {
            return Err(UnitError::State { unit: unit.to_owned(), state, wanted });
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// So often a unit may be seen neither where it should be nor on its way there: its job waits for those of others.
const JOB_LOOKS_MAX: u32 = 250;

async fn seen(bus: &Connection, unit: &str) -> Result<Seen, UnitError> {
    let reply = bus.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), "LoadUnit", &unit).await?;
    let path: OwnedObjectPath = reply.body().deserialize()?;
    let get = async |name: &str| -> Result<String, UnitError> {
        let reply = bus.call_method(Some(SYSTEMD), path.as_str(), Some(PROPERTIES), "Get", &(UNIT, name)).await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        Ok(value.downcast_ref::<String>()?)
    };
    Ok(Seen { there: get("LoadState").await? == "loaded", active: get("ActiveState").await? })
}
