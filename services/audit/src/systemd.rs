//! Hears from systemd, over D-Bus, what becomes of the services, and tells the writer's loop. It asks for nothing else.
//!
//! A thread of its own: D-Bus may hang, the writer must not. Whoever is on the bus can send anybody a signal, so each
//! is taken from systemd alone, by the name that the bus itself gives its connection.

use crate::states::{Seen, object_path};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use zbus::OwnedVariant;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::message::Type;
use zbus::{Connection, MessageStream};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// systemd answers at once, but while it boots or reloads.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two tries to reach the bus.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// What waits for a writer that waits for its disk; then the bus waits.
const WAITING_MAX: usize = 1024;

/// What the loop is told.
#[derive(Debug)]
pub enum Heard {
    /// From now on changes are heard; first comes how each unit stands.
    Listening,
    /// How a unit stands.
    Unit(String, Seen),
    /// Nothing is heard until the next [`Heard::Listening`]; why.
    Nothing(String),
}

/// The thread, as the loop sees it.
#[derive(Debug)]
pub struct Systemd {
    wake: OwnedFd,
    heard: Receiver<Heard>,
}

impl AsFd for Systemd {
    /// Readable when there is something to [`Self::take`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Systemd {
    /// Begins to listen for these units: after the sandbox was entered.
    ///
    /// # Errors
    /// When the kernel gives no thread or descriptor.
    pub fn listen(units: Vec<String>) -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (send, heard) = sync_channel(WAITING_MAX);
        let tell = Tell { send, wake: wake.try_clone()? };
        std::thread::Builder::new().name("systemd".to_owned()).spawn(move || tell.forever(&units))?;
        Ok(Self { wake, heard })
    }

    /// What was heard since the last time.
    pub fn take(&self) -> impl Iterator<Item = Heard> {
        // Before the channel is emptied: what comes in between wakes again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.heard.try_iter()
    }
}

/// The loop is gone: so is the process.
struct Gone;

struct Tell {
    send: SyncSender<Heard>,
    wake: OwnedFd,
}

impl Drop for Tell {
    /// A thread that panicked hears nothing: nobody shall believe that it still does.
    fn drop(&mut self) {
        let _ = self.tell(Heard::Nothing("its thread has ended".to_owned()));
    }
}

impl Tell {
    fn forever(&self, units: &[String]) {
        let mut hears = true;
        loop {
            // Ends well only when the loop is gone.
            let Err(why) = zbus::block_on(self.listen(units, &mut hears)) else { return };
            // Once, not every two seconds.
            if hears && self.tell(Heard::Nothing(why.to_string())).is_err() {
                return;
            }
            hears = false;
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    fn tell(&self, heard: Heard) -> Result<(), Gone> {
        self.send.send(heard).map_err(|_| Gone)?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).map(drop).map_err(|_| Gone)
    }

    /// Ends well when the loop is gone, and else with what ended the connection.
    async fn listen(&self, units: &[String], hears: &mut bool) -> zbus::Result<()> {
        let bus = zbus::connection::Builder::system().method_timeout(ANSWER_TIME_MAX).build().await?;
        let mut messages = MessageStream::from(&bus);
        let paths: BTreeMap<String, &str> = units.iter().map(|unit| (object_path(unit), unit.as_str())).collect();
        let owner_rule = format!("type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'");
        add_match(&bus, &owner_rule).await?;
        for path in paths.keys() {
            let rule = format!(
                "type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='PropertiesChanged',path='{path}'"
            );
            add_match(&bus, &rule).await?;
        }
        let systemd = owner(&bus).await?;
        let manager = "/org/freedesktop/systemd1";
        bus.call_method(Some(SYSTEMD), manager, Some("org.freedesktop.systemd1.Manager"), "Subscribe", &()).await?;
        if self.tell(Heard::Listening).is_err() {
            return Ok(());
        }
        *hears = true;
        let mut results = HashMap::new();
        for (path, unit) in &paths {
            let Some(mut seen) = seen(&properties(&bus, path, UNIT).await?) else { continue };
            seen.result = word(&properties(&bus, path, SERVICE).await?, "Result").unwrap_or_default();
            results.insert(path.clone(), seen.result.clone());
            if self.tell(Heard::Unit((*unit).to_owned(), seen)).is_err() {
                return Ok(());
            }
        }
        while let Some(message) = messages.next().await {
            let message = message?;
            let header = message.header();
            let (Some(sender), Some(path), Some(member)) = (header.sender(), header.path(), header.member()) else {
                continue;
            };
            if header.message_type() != Type::Signal {
                continue;
            }
            if *sender == BUS && *member == "NameOwnerChanged" {
                // systemd began anew on the bus: so do we, with how everything stands.
                return Err(zbus::Error::Failure("systemd left the bus".to_owned()));
            }
            let Some(unit) = paths.get(path.as_str()) else { continue };
            if *sender != *systemd || *member != "PropertiesChanged" {
                continue;
            }
            let (of, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
                message.body().deserialize()?;
            // First comes what is special to services, then what all units have: the two belong together.
            if of == SERVICE {
                results.extend(word(&changed, "Result").map(|result| (path.to_string(), result)));
            } else if of == UNIT
                && let Some(mut seen) = seen(&changed)
            {
                seen.result = results.get(path.as_str()).cloned().unwrap_or_default();
                if self.tell(Heard::Unit((*unit).to_owned(), seen)).is_err() {
                    return Ok(());
                }
            }
        }
        Err(zbus::Error::Failure("the bus has closed the connection".to_owned()))
    }
}

async fn add_match(bus: &Connection, rule: &str) -> zbus::Result<()> {
    bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "AddMatch", &rule).await.map(drop)
}

/// The connection that is systemd: only root may be (`org.freedesktop.systemd1.conf`).
async fn owner(bus: &Connection) -> zbus::Result<String> {
    let reply = bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetNameOwner", &SYSTEMD).await?;
    reply.body().deserialize()
}

async fn properties(bus: &Connection, path: &str, of: &str) -> zbus::Result<HashMap<String, OwnedVariant>> {
    bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &of).await?.body().deserialize()
}

fn word(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<String> {
    properties.get(name).and_then(|value| value.downcast_ref::<String>().ok())
}

/// None where there is no state among them.
fn seen(properties: &HashMap<String, OwnedVariant>) -> Option<Seen> {
    let time = |name: &str| properties.get(name).and_then(|value| value.downcast_ref::<u64>().ok()).unwrap_or(0);
    let invocation = properties.get("InvocationID").cloned().and_then(|value| Vec::<u8>::try_from(value).ok());
    Some(Seen {
        active: word(properties, "ActiveState")?,
        result: String::new(),
        invocation: invocation.unwrap_or_default(),
        changed: time("StateChangeTimestampMonotonic"),
        entered: time("ActiveEnterTimestampMonotonic"),
    })
}
