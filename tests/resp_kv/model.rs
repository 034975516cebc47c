//! What Redis does, for some of its commands, in as few lines as will do: the model that the simulated server is compared
//! with. One client's commands and keys only.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone)]
enum Value {
    String(String),
    Hash(BTreeMap<String, String>),
    List(VecDeque<String>),
    Set(BTreeSet<String>),
}

use Value::{Hash, List, Set, String as Text};

/// What is kept, and a transaction that has begun.
#[derive(Clone, Default)]
pub struct Model {
    values: BTreeMap<String, Value>,
    queue: Option<Vec<Vec<String>>>,
}

const OK: &str = "+OK\r\n";
const NULL: &str = "$-1\r\n";
const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

/// The value of a key if it is of this type; a new one if there is none; else the answer of this function is an error.
macro_rules! of_type {
    ($model:ident, $key:expr, $type:ident, $default:expr) => {
        match $model.values.entry($key.to_owned()).or_insert_with(|| $type($default)) {
            $type(value) => value,
            _ => return WRONG_TYPE.to_string(),
        }
    };
}

impl Model {
    /// The reply to a command, in version 2 of the protocol.
    pub fn reply(&mut self, command: &[String]) -> String {
        let name = command[0].as_str();
        match (name, &mut self.queue) {
            ("EXEC", Some(_)) => {
                let commands = self.queue.take().unwrap_or_default();
                let replies: String =
                    commands.iter().map(|command| self.carry_out(command)).collect();
                format!("*{}\r\n{replies}", commands.len())
            }
            ("DISCARD", Some(_)) => {
                self.queue = None;
                OK.to_string()
            }
            (_, Some(queue)) => {
                queue.push(command.to_vec());
                "+QUEUED\r\n".to_string()
            }
            ("MULTI", None) => {
                self.queue = Some(Vec::new());
                OK.to_string()
            }
            (_, None) => self.carry_out(command),
        }
    }

    /// Whether commands are only queued.
    pub fn is_in_transaction(&self) -> bool {
        self.queue.is_some()
    }

    fn carry_out(&mut self, command: &[String]) -> String {
        let reply = self.change(command);
        self.values.retain(|_, value| match value {
            Text(_) => true,
            Hash(hash) => !hash.is_empty(),
            List(list) => !list.is_empty(),
            Set(set) => !set.is_empty(),
        });
        reply
    }

    /// May leave an empty hash, list or set.
    fn change(&mut self, command: &[String]) -> String {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let key = command.get(1).unwrap_or(&command[0]);
        match words[..] {
            ["PING"] => "+PONG\r\n".to_string(),
            ["ECHO", text] => bulk(text),
            ["SET", _, text] => self.set(key, text),
            ["SET", _, text, "NX"] if !self.values.contains_key(key) => self.set(key, text),
            ["SET", _, text, "XX"] if self.values.contains_key(key) => self.set(key, text),
            ["SET", ..] => NULL.to_string(),
            ["MSET", one, text, other, last] => {
                self.set(one, text);
                self.set(other, last)
            }
            ["MGET", one, other] => format!("*2\r\n{}{}", self.text(one), self.text(other)),
            ["DEL", _] => integer(self.values.remove(key).is_some().into()),
            ["EXISTS", _] => integer(self.values.contains_key(key).into()),
            ["TYPE", _] => match self.values.get(key) {
                None => "+none\r\n".to_string(),
                Some(Text(_)) => "+string\r\n".to_string(),
                Some(Hash(_)) => "+hash\r\n".to_string(),
                Some(List(_)) => "+list\r\n".to_string(),
                Some(Set(_)) => "+set\r\n".to_string(),
            },
            ["RENAME", _, to] => match self.values.remove(key) {
                None => "-ERR no such key\r\n".to_string(),
                Some(value) => {
                    self.values.insert(to.to_string(), value);
                    OK.to_string()
                }
            },
            [name, ..] if matches!(self.values.get(key), None | Some(Text(_))) => match name {
                "GET" => self.text(key),
                "GETDEL" => {
                    let reply = self.text(key);
                    self.values.remove(key);
                    reply
                }
                "STRLEN" => integer(self.text_of(key).len() as i64),
                "INCRBY" => {
                    let text = if self.values.contains_key(key) { self.text_of(key) } else { "0" };
                    let Ok(number) = text.parse::<i64>() else {
                        return "-ERR value is not an integer or out of range\r\n".to_string();
                    };
                    let number = number + words[2].parse::<i64>().unwrap();
                    self.set(key, &number.to_string());
                    integer(number)
                }
                "APPEND" => {
                    let text = format!("{}{}", self.text_of(key), words[2]);
                    self.set(key, &text);
                    integer(text.len() as i64)
                }
                _ => self.change_collection(key, &words),
            },
            _ => self.change_collection(key, &words),
        }
    }

    fn change_collection(&mut self, key: &str, words: &[&str]) -> String {
        match *words {
            ["HSET", _, field, text] => {
                let hash = of_type!(self, key, Hash, BTreeMap::new());
                integer(hash.insert(field.to_string(), text.to_string()).is_none().into())
            }
            ["HGET", _, field] => {
                let hash = of_type!(self, key, Hash, BTreeMap::new());
                hash.get(field).map_or(NULL.to_string(), |text| bulk(text))
            }
            ["HDEL", _, field] => {
                let hash = of_type!(self, key, Hash, BTreeMap::new());
                integer(hash.remove(field).is_some().into())
            }
            ["HLEN", _] => integer(of_type!(self, key, Hash, BTreeMap::new()).len() as i64),
            ["LPUSH", _, text] => {
                let list = of_type!(self, key, List, VecDeque::new());
                list.push_front(text.to_string());
                integer(list.len() as i64)
            }
            ["RPUSH", _, one, other] => {
                let list = of_type!(self, key, List, VecDeque::new());
                list.extend([one.to_string(), other.to_string()]);
                integer(list.len() as i64)
            }
            ["LPOP", _] => {
                let list = of_type!(self, key, List, VecDeque::new());
                list.pop_front().map_or(NULL.to_string(), |text| bulk(&text))
            }
            ["RPOP", _] => {
                let list = of_type!(self, key, List, VecDeque::new());
                list.pop_back().map_or(NULL.to_string(), |text| bulk(&text))
            }
            ["LRANGE", _, "0", "-1"] => {
                let list = of_type!(self, key, List, VecDeque::new());
                let elements: String = list.iter().map(|text| bulk(text)).collect();
                format!("*{}\r\n{elements}", list.len())
            }
            ["SADD", _, member] => {
                let set = of_type!(self, key, Set, BTreeSet::new());
                integer(set.insert(member.to_string()).into())
            }
            ["SREM", _, member] => {
                let set = of_type!(self, key, Set, BTreeSet::new());
                integer(set.remove(member).into())
            }
            ["SISMEMBER", _, member] => {
                let set = of_type!(self, key, Set, BTreeSet::new());
                integer(set.contains(member).into())
            }
            ["SCARD", _] => integer(of_type!(self, key, Set, BTreeSet::new()).len() as i64),
            ["GET" | "GETDEL" | "STRLEN" | "INCRBY" | "APPEND", ..] => WRONG_TYPE.to_string(),
            _ => panic!("the model does not know {words:?}"),
        }
    }

    fn set(&mut self, key: &str, text: &str) -> String {
        self.values.insert(key.to_string(), Text(text.to_string()));
        OK.to_string()
    }

    /// The text of a key; empty if it has none.
    fn text_of(&self, key: &str) -> &str {
        match self.values.get(key) {
            Some(Text(text)) => text,
            _ => "",
        }
    }

    /// The reply with the text of a key.
    fn text(&self, key: &str) -> String {
        match self.values.get(key) {
            Some(Text(text)) => bulk(text),
            _ => NULL.to_string(),
        }
    }
}

/// Commands that tell all about a client's keys, whatever is there.
pub fn questions(prefix: &str) -> Vec<Vec<String>> {
    let mut questions = Vec::new();
    for number in 0..KEYS {
        let mut ask = |words: &[&str]| {
            let key = format!("{prefix}:{number}");
            let words = [&words[..1], &[&key], &words[1..]].concat();
            questions.push(words.into_iter().map(str::to_string).collect());
        };
        for words in [&["TYPE"][..], &["GET"], &["LRANGE", "0", "-1"], &["HLEN"], &["SCARD"]] {
            ask(words);
        }
        for field in 0..FIELDS {
            ask(&["HGET", &format!("f{field}")]);
            ask(&["SISMEMBER", &format!("f{field}")]);
        }
    }
    questions
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn integer(number: i64) -> String {
    format!(":{number}\r\n")
}

/// How many names of keys, and of fields and members, one client has.
const KEYS: u64 = 4;
const FIELDS: u64 = 3;

/// The commands that the model knows. `k` stands for a key, `v` for a value, `n` for a number, `f` for a field or a member.
const COMMANDS: &[&str] = &[
    "PING",
    "ECHO v",
    "SET k v",
    "SET k n",
    "SET k n",
    "SET k v NX",
    "SET k v XX",
    "MSET k v k n",
    "MGET k k",
    "DEL k",
    "DEL k",
    "EXISTS k",
    "TYPE k",
    "RENAME k k",
    "GET k",
    "GET k",
    "GETDEL k",
    "STRLEN k",
    "INCRBY k n",
    "INCRBY k n",
    "APPEND k v",
    "HSET k f v",
    "HSET k f n",
    "HGET k f",
    "HDEL k f",
    "HLEN k",
    "LPUSH k v",
    "RPUSH k v n",
    "LPOP k",
    "RPOP k",
    "LRANGE k 0 -1",
    "SADD k f",
    "SREM k f",
    "SISMEMBER k f",
    "SCARD k",
];

/// Any command, on keys that begin with `prefix`.
pub fn any_command(prefix: &str, mut random: impl FnMut() -> u64) -> Vec<String> {
    let command = COMMANDS[random() as usize % COMMANDS.len()];
    let mut word = |word: &str| match word {
        "k" => format!("{prefix}:{}", random() % KEYS),
        "f" => format!("f{}", random() % FIELDS),
        "n" => (random() % 100).to_string(),
        "v" => {
            // Most are short; some are longer than all buffers.
            let length =
                if random().is_multiple_of(20) { random() % 10_000 } else { random() % 10 };
            let letters = (0..length).map(|i| char::from(b'a' + (i % 26) as u8));
            letters.collect()
        }
        other => other.to_string(),
    };
    command.split(' ').map(&mut word).collect()
}
