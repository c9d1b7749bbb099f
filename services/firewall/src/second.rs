//! A second reader of the table of packets: nft's JSON, by the types of the crate `nftables`, which others wrote.
//!
//! Our parser reads nft's text, and the proof is about what it read. If it ever read something else than what nft said,
//! the proof would be about other rules than the kernel's. So what it read and what this reader read are brought into
//! one form, each on a way of its own, and must be the same.
//!
//! The crate passes over keys that it does not know; so what it read is written again, and must be what it was read from.

use nftables::expr::{
    BinaryOperation, CT, Expression, Map as Lookup, Meta, MetaKey, NamedExpression, Payload, PayloadField, SetItem,
};
use nftables::schema::{self, NfListObject, NfObject, Nftables, SetFlag, SetType, SetTypeValue};
use nftables::stmt::{Counter, Match, Operator, RejectType, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use secai_verifier::network::rules::{Act, Elements, Field, Hook, INET_TABLE, Rule, Ruleset, With};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The version of its JSON that nft 1.0.6 and 1.1.3 name.
const JSON_VERSION: u32 = 1;
/// What is told of a difference: rules may be long, and a refusal is a line.
const DIFFERENCE_CHARS_MAX: usize = 400;

/// Did both read the same table? `text` is what our parser read, `json` the output of `nft -j list table inet secure_ai`.
///
/// # Errors
/// The first difference, in words; or why the JSON is none that we know.
pub fn agree(text: &Ruleset, json: &[u8]) -> Result<(), String> {
    let difference = match (of_text(text), of_json(json)) {
        (Ok(text), Ok(json)) if text == json => return Ok(()),
        (Ok(text), Ok(json)) => text.difference(&json),
        (Err(why), _) => format!("the text: {why}"),
        (_, Err(why)) => format!("the JSON: {why}"),
    };
    Err(difference.chars().take(DIFFERENCE_CHARS_MAX).collect())
}

/// The table, as both readers must see it. Lists of values are sorted; nothing else is brought together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    counters: BTreeSet<String>,
    sets: BTreeMap<String, (Kind, Vec<(u128, u128)>)>,
    maps: BTreeMap<String, Vec<(u64, u64)>>,
    chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V4,
    V6,
    Marks,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Hook, and whether its policy drops.
    base: Option<(&'static str, bool)>,
    rules: Vec<Vec<Step>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Match { what: String, not: bool, with: Against },
    Limit { rate: u64, seconds: u64, burst: u64 },
    SetByProtocol { what: String, map: String },
    SetTo { what: String, value: u64 },
    Count(String),
    Accept,
    Drop,
    Reset,
    Goto(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Against {
    Values(Vec<(u64, u64)>),
    Set(String),
    Link(String),
    /// `syn` of `syn` and `ack`.
    Begin,
}

impl Form {
    fn difference(&self, json: &Self) -> String {
        let of = |what: &str, text: String, json: String| format!("{what}: the text has {text}, the JSON {json}");
        if self.counters != json.counters {
            return of("counters", format!("{:?}", self.counters), format!("{:?}", json.counters));
        }
        let names: BTreeSet<&String> = self.chains.keys().chain(json.chains.keys()).collect();
        for name in names {
            let (one, other) = match (self.chains.get(name), json.chains.get(name)) {
                (Some(one), Some(other)) => (one, other),
                (one, _) => {
                    return format!("chain {name:?} is only in the {}", if one.is_some() { "text" } else { "JSON" });
                }
            };
            if one.base != other.base {
                return of(&format!("chain {name:?}"), format!("{:?}", one.base), format!("{:?}", other.base));
            }
            let rules = one.rules.len().max(other.rules.len());
            let Some(at) = (0..rules).find(|at| one.rules.get(*at) != other.rules.get(*at)) else { continue };
            let place = format!("chain {name:?}, rule {}", at + 1);
            return match (one.rules.get(at), other.rules.get(at)) {
                (Some(one), Some(other)) => {
                    let first = (0..).find(|at| one.get(*at) != other.get(*at)).unwrap_or_default();
                    let told = |rule: &[Step]| rule.get(first).map_or("an end".to_owned(), |step| format!("{step:?}"));
                    of(&format!("{place}, part {}", first + 1), told(one), told(other))
                }
                (one, _) => format!("{place} is only in the {}", if one.is_some() { "text" } else { "JSON" }),
            };
        }
        match self.sets == json.sets {
            true => of("maps", format!("{:?}", self.maps), format!("{:?}", json.maps)),
            false => of("sets", format!("{:?}", self.sets), format!("{:?}", json.sets)),
        }
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

// ---- what our parser read ----

fn of_text(rules: &Ruleset) -> Result<Form, String> {
    let table = &rules.inet;
    let mut form = Form { counters: table.counters.keys().cloned().collect(), ..Form::default() };
    for (name, elements) in &table.sets {
        let set = match elements {
            Elements::V4(spans) => (Kind::V4, spans.iter().map(|it| (it.0.into(), it.1.into())).collect()),
            Elements::V6(spans) => (Kind::V6, spans.clone()),
            Elements::Marks(marks) => (Kind::Marks, marks.iter().map(|it| ((*it).into(), (*it).into())).collect()),
        };
        form.sets.insert(name.clone(), (set.0, sorted(set.1)));
    }
    for (name, pairs) in &table.maps {
        form.maps.insert(name.clone(), pairs.iter().map(|(proto, mark)| (*proto, (*mark).into())).collect());
    }
    for chain in &table.chains {
        let base = match &chain.base {
            None => None,
            Some(base) => match base.hook {
                Hook::Input => Some(("input", base.drops)),
                Hook::Forward => Some(("forward", base.drops)),
                Hook::Output => Some(("output", base.drops)),
                Hook::Egress(_) => return Err(format!("chain {:?} is no chain of packets", chain.name)),
            },
        };
        let rules = chain.rules.iter().map(steps).collect();
        form.chains.insert(chain.name.clone(), Chain { base, rules });
    }
    Ok(form)
}

fn steps(rule: &Rule) -> Vec<Step> {
    let conditions = rule.conditions.iter().map(|condition| Step::Match {
        what: named(condition.field).to_owned(),
        not: condition.not,
        with: match &condition.with {
            With::Values(spans) => Against::Values(sorted(spans.clone())),
            With::Set(name) => Against::Set(name.clone()),
            With::Link(name) => Against::Link(name.clone()),
            With::Begin => Against::Begin,
        },
    });
    let by_protocol = |what: &str, map: &str| Step::SetByProtocol { what: what.to_owned(), map: map.to_owned() };
    let acts = rule.acts.iter().map(|act| match act {
        Act::Limit(limit) => Step::Limit { rate: limit.rate, seconds: limit.seconds, burst: limit.burst },
        Act::MarkFlow(map) => by_protocol("ct mark", map),
        Act::MarkPacket(map) => by_protocol("meta mark", map),
        Act::ClearMark => Step::SetTo { what: "meta mark".to_owned(), value: 0 },
        Act::Count(name) => Step::Count(name.clone()),
        Act::Accept => Step::Accept,
        Act::Drop => Step::Drop,
        Act::Reject => Step::Reset,
        Act::Goto(chain) => Step::Goto(chain.clone()),
    });
    conditions.chain(acts).collect()
}

/// The words that the JSON has for it. Not those of the parser: two readers do not share a table.
const fn named(field: Field) -> &'static str {
    match field {
        Field::InLink => "meta iif",
        Field::OutLink => "meta oif",
        Field::L4Proto => "meta l4proto",
        Field::SocketUid => "meta skuid",
        Field::Mark => "meta mark",
        Field::CtState => "ct state",
        Field::CtMark => "ct mark",
        Field::EtherType => "ether type",
        Field::Destination4 => "ip daddr",
        Field::Destination6 => "ip6 daddr",
        Field::HopLimit => "ip6 hoplimit",
        Field::Icmp6Type => "icmpv6 type",
        Field::AnyDport => "th dport",
        Field::TcpDport => "tcp dport",
        Field::TcpFlags => "tcp flags",
        Field::UdpSport => "udp sport",
        Field::UdpDport => "udp dport",
    }
}

// ---- what the crate read ----

type Read<T> = Result<T, String>;

fn of_json(json: &[u8]) -> Read<Form> {
    let mut whole: Value = serde_json::from_slice(json).map_err(|error| format!("it is none: {error}"))?;
    without_what_means_nothing(&mut whole);
    let typed: Nftables<'_> =
        serde_json::from_value(whole.clone()).map_err(|error| format!("it has another shape: {error}"))?;
    if serde_json::to_value(&typed).ok().as_ref() != Some(&whole) {
        return Err("something in it was passed over".to_owned());
    }
    let mut objects = Vec::new();
    for object in typed.objects.iter() {
        match object {
            NfObject::ListObject(object) => objects.push(object),
            NfObject::CmdObject(_) => return Err("a command is among what is listed".to_owned()),
        }
    }
    let [NfListObject::MetainfoObject(about), NfListObject::Table(table), rest @ ..] = objects.as_slice() else {
        return Err("it does not begin with a table".to_owned());
    };
    if about.json_schema_version != Some(JSON_VERSION) {
        return Err("it is of a version that is not known".to_owned());
    }
    ours(table.family, &table.name)?;
    let mut form = Form::default();
    for object in rest {
        let new = match object {
            NfListObject::Counter(counter) => {
                ours(counter.family, &counter.table)?;
                form.counters.insert(counter.name.to_string())
            }
            NfListObject::Set(one) => {
                ours(one.family, &one.table)?;
                form.sets.insert(one.name.to_string(), set(one)?).is_none()
            }
            NfListObject::Map(one) => {
                ours(one.family, &one.table)?;
                form.maps.insert(one.name.to_string(), map(one)?).is_none()
            }
            NfListObject::Chain(one) => {
                ours(one.family, &one.table)?;
                let chain = Chain { base: base(one)?, rules: Vec::new() };
                form.chains.insert(one.name.to_string(), chain).is_none()
            }
            NfListObject::Rule(rule) => {
                ours(rule.family, &rule.table)?;
                if rule.index.is_some() || rule.comment.is_some() {
                    return Err(format!("a rule of {:?} has more than what it does", rule.chain));
                }
                let steps = rule.expr.iter().map(step).collect::<Read<_>>()?;
                let chain = form.chains.get_mut(rule.chain.as_ref());
                chain.ok_or_else(|| format!("a rule is in no chain, but in {:?}", rule.chain))?.rules.push(steps);
                true
            }
            other => return Err(format!("what no table of ours has: {other:?}")),
        };
        if !new {
            return Err("a name is there twice".to_owned());
        }
    }
    Ok(form)
}

/// Numbers that the kernel gave, and counts: the crate has 32 bits for these, the kernel 64. And `auto-merge`, which nft
/// 1.1.3 says, 1.0.6 does not, and the crate passes over: it is about how a set was filled, and both list what is in it.
fn without_what_means_nothing(whole: &mut Value) {
    let objects = whole.get_mut("nftables").and_then(Value::as_array_mut);
    for (kind, object) in objects.into_iter().flatten().filter_map(Value::as_object_mut).flatten() {
        let Some(object) = object.as_object_mut() else { continue };
        if object.get("handle").is_some_and(Value::is_u64) {
            object.remove("handle");
        }
        match kind.as_str() {
            "counter" => {
                for name in ["packets", "bytes"] {
                    if let Some(count) = object.get_mut(name).filter(|count| count.is_u64()) {
                        *count = 0.into();
                    }
                }
            }
            "set" if object.get("auto-merge") == Some(&Value::Bool(true)) => drop(object.remove("auto-merge")),
            _ => {}
        }
    }
}

fn ours(family: NfFamily, table: &str) -> Read<()> {
    match (family, table) {
        (NfFamily::INet, INET_TABLE) => Ok(()),
        _ => Err(format!("what is not of our table: {family:?} {table:?}")),
    }
}

fn base(chain: &schema::Chain<'_>) -> Read<Option<(&'static str, bool)>> {
    let schema::Chain { newname: None, dev: None, .. } = chain else {
        return Err(format!("chain {:?} has more than we know", chain.name));
    };
    match (chain._type, chain.hook, chain.prio, chain.policy) {
        (None, None, None, None) => Ok(None),
        (Some(NfChainType::Filter), Some(hook), Some(0), Some(policy)) => {
            let hook = match hook {
                NfHook::Input => "input",
                NfHook::Forward => "forward",
                NfHook::Output => "output",
                other => return Err(format!("chain {:?} is at {other:?}", chain.name)),
            };
            Ok(Some((hook, policy == NfChainPolicy::Drop)))
        }
        _ => Err(format!("chain {:?} is entered otherwise than ours", chain.name)),
    }
}

fn set(set: &schema::Set<'_>) -> Read<(Kind, Vec<(u128, u128)>)> {
    let schema::Set { policy: None, timeout: None, gc_interval: None, size: None, comment: None, .. } = set else {
        return Err(format!("set {:?} has more than we know", set.name));
    };
    let interval = set.flags.as_ref().map(|flags| flags.iter().copied().collect::<Vec<_>>());
    let kind = match (&set.set_type, interval.as_deref()) {
        (SetTypeValue::Single(SetType::Ipv4Addr), Some([SetFlag::Interval])) => Kind::V4,
        (SetTypeValue::Single(SetType::Ipv6Addr), Some([SetFlag::Interval])) => Kind::V6,
        (SetTypeValue::Single(SetType::Mark), None) => Kind::Marks,
        _ => return Err(format!("set {:?} is of another type than ours", set.name)),
    };
    let elements = set.elem.iter().flat_map(|elements| elements.iter()).map(|it| element(kind, it));
    Ok((kind, sorted(elements.collect::<Read<_>>()?)))
}

fn element(kind: Kind, element: &Expression<'_>) -> Read<(u128, u128)> {
    let unknown = || format!("an element that we do not know: {element:?}");
    let one = |it: &Expression<'_>| match (kind, it) {
        (Kind::V4, Expression::String(text)) => text.parse::<Ipv4Addr>().map(|it| u128::from(it.to_bits())).ok(),
        (Kind::V6, Expression::String(text)) => text.parse::<Ipv6Addr>().map(Ipv6Addr::to_bits).ok(),
        (Kind::Marks, Expression::Number(mark)) => Some(u128::from(*mark)),
        _ => None,
    };
    match element {
        Expression::Range(range) => {
            let [first, last] = &range.range;
            one(first).zip(one(last)).filter(|(first, last)| first <= last).ok_or_else(unknown)
        }
        Expression::Named(NamedExpression::Prefix(prefix)) => {
            let bits: u32 = if kind == Kind::V4 { 32 } else { 128 };
            let free = bits.checked_sub(prefix.len).ok_or_else(unknown)?;
            let mask = 1_u128.checked_shl(free).map_or(u128::MAX, |bit| bit - 1);
            let first = one(&prefix.addr).filter(|it| it & mask == 0).ok_or_else(unknown)?;
            Ok((first, first | mask))
        }
        plain => one(plain).map(|it| (it, it)).ok_or_else(unknown),
    }
}

fn map(map: &schema::Map<'_>) -> Read<Vec<(u64, u64)>> {
    let plain = SetTypeValue::Single(SetType::InetProto) == map.set_type
        && SetTypeValue::Single(SetType::Mark) == map.map
        && map.flags.is_none();
    let schema::Map { policy: None, timeout: None, gc_interval: None, size: None, comment: None, .. } = map else {
        return Err(format!("map {:?} has more than we know", map.name));
    };
    if !plain {
        return Err(format!("map {:?} is of another type than ours", map.name));
    }
    let pairs = map.elem.iter().flat_map(|pairs| pairs.iter()).map(|pair| match pair {
        Expression::List(pair) => match pair.as_slice() {
            [proto, Expression::Number(mark)] => Ok((value("meta l4proto", proto)?, u64::from(*mark))),
            other => Err(format!("a pair that we do not know: {other:?}")),
        },
        other => Err(format!("a pair that we do not know: {other:?}")),
    });
    Ok(sorted(pairs.collect::<Read<_>>()?))
}

fn step(statement: &Statement<'_>) -> Read<Step> {
    let unknown = || Err(format!("a statement that no rule of ours has: {statement:?}"));
    Ok(match statement {
        Statement::Accept(None) => Step::Accept,
        Statement::Drop(None) => Step::Drop,
        Statement::Goto(to) => Step::Goto(to.target.to_string()),
        Statement::Counter(Counter::Named(name)) => Step::Count(name.to_string()),
        Statement::Reject(Some(reject)) if reject.expr.is_none() && reject._type == Some(RejectType::TCPReset) => {
            Step::Reset
        }
        Statement::Limit(limit) if limit.rate_unit.is_none() && limit.burst_unit.is_none() && limit.inv.is_none() => {
            let seconds = match limit.per.as_deref() {
                Some("second") => 1,
                Some("minute") => 60,
                Some("hour") => 3600,
                Some("day") => 86_400,
                _ => return unknown(),
            };
            let Some(burst) = limit.burst else { return unknown() };
            Step::Limit { rate: limit.rate.into(), seconds, burst: burst.into() }
        }
        Statement::Mangle(mangle) => {
            let what = compared(&mangle.key)?;
            match &mangle.value {
                Expression::Number(value) => Step::SetTo { what, value: (*value).into() },
                Expression::Named(NamedExpression::Map(lookup)) => match lookup.as_ref() {
                    Lookup { key, data: Expression::String(map) } if compared(key)? == "meta l4proto" => {
                        let Some(map) = map.strip_prefix('@') else { return unknown() };
                        Step::SetByProtocol { what, map: map.to_owned() }
                    }
                    _ => return unknown(),
                },
                _ => return unknown(),
            }
        }
        Statement::Match(Match { left: Expression::BinaryOperation(masked), right, op }) => {
            let BinaryOperation::AND(left, mask) = masked.as_ref() else { return unknown() };
            let flags = match mask {
                Expression::List(flags) => flags.as_slice(),
                // As nft 1.1.3 has it.
                Expression::BinaryOperation(or) => match or.as_ref() {
                    BinaryOperation::OR(flags) => flags.as_slice(),
                    _ => return unknown(),
                },
                _ => return unknown(),
            };
            let is = |it: &Expression<'_>, word: &str| matches!(it, Expression::String(text) if text == word);
            let what = compared(left)?;
            match flags {
                [one, other] if what == "tcp flags" && is(one, "syn") && is(other, "ack") && is(right, "syn") => {
                    Step::Match { not: negated(*op, &what)?, what, with: Against::Begin }
                }
                _ => return unknown(),
            }
        }
        Statement::Match(Match { left, right, op }) => {
            let what = compared(left)?;
            Step::Match { not: negated(*op, &what)?, with: against(&what, right)?, what }
        }
        _ => return unknown(),
    })
}

fn negated(op: Operator, what: &str) -> Read<bool> {
    match op {
        // A state is one of several bits.
        Operator::IN if what == "ct state" => Ok(false),
        Operator::EQ if what != "ct state" => Ok(false),
        Operator::NEQ => Ok(true),
        other => Err(format!("{what} is compared by {other:?}")),
    }
}

/// What of a packet it is, in nft's words.
fn compared(left: &Expression<'_>) -> Read<String> {
    match left {
        Expression::Named(NamedExpression::Meta(Meta { key })) => {
            let key = match key {
                MetaKey::Iif => "iif",
                MetaKey::Oif => "oif",
                MetaKey::L4proto => "l4proto",
                MetaKey::Skuid => "skuid",
                MetaKey::Mark => "mark",
                other => return Err(format!("no rule of ours asks for {other:?}")),
            };
            Ok(format!("meta {key}"))
        }
        Expression::Named(NamedExpression::CT(CT { key, family: None, dir: None })) => Ok(format!("ct {key}")),
        Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol, field }))) => {
            Ok(format!("{protocol} {field}"))
        }
        other => Err(format!("no rule of ours asks for {other:?}")),
    }
}

fn against(what: &str, right: &Expression<'_>) -> Read<Against> {
    Ok(match right {
        Expression::String(name) if name.starts_with('@') => Against::Set(name.trim_start_matches('@').to_owned()),
        Expression::String(name) if matches!(what, "meta iif" | "meta oif") => Against::Link(name.to_string()),
        Expression::Named(NamedExpression::Set(items)) => {
            let spans = items.iter().map(|item| match item {
                SetItem::Element(element) => span(what, element),
                other => Err(format!("{what} is mapped: {other:?}")),
            });
            Against::Values(sorted(spans.collect::<Read<_>>()?))
        }
        Expression::List(items) if what == "ct state" => {
            Against::Values(sorted(items.iter().map(|it| span(what, it)).collect::<Read<_>>()?))
        }
        one => Against::Values(vec![span(what, one)?]),
    })
}

fn span(what: &str, element: &Expression<'_>) -> Read<(u64, u64)> {
    match element {
        Expression::Range(range) => {
            let [first, last] = &range.range;
            Ok((value(what, first)?, value(what, last)?))
        }
        one => value(what, one).map(|it| (it, it)),
    }
}

fn value(what: &str, value: &Expression<'_>) -> Read<u64> {
    let known = match value {
        Expression::Number(number) => Some(u64::from(*number)),
        Expression::String(word) => match (what, word.as_ref()) {
            ("meta l4proto", "icmp") => Some(1),
            ("meta l4proto", "tcp") => Some(6),
            ("meta l4proto", "udp") => Some(17),
            ("meta l4proto", "ipv6-icmp") => Some(58),
            ("ct state", "invalid") => Some(0),
            ("ct state", "established") => Some(1),
            ("ct state", "related") => Some(2),
            ("ct state", "new") => Some(3),
            ("ct state", "untracked") => Some(4),
            ("icmpv6 type", "nd-router-solicit") => Some(133),
            ("icmpv6 type", "nd-router-advert") => Some(134),
            ("icmpv6 type", "nd-neighbor-solicit") => Some(135),
            ("icmpv6 type", "nd-neighbor-advert") => Some(136),
            ("icmpv6 type", "nd-redirect") => Some(137),
            _ => None,
        },
        _ => None,
    };
    known.ok_or_else(|| format!("{what} is compared with what we do not know: {value:?}"))
}
