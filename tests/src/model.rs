//! What the keys of a crash test should hold: a plain model of a few commands over all types, and random commands for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::{Client, Reply};

/// What one key holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A string.
    String(String),
    /// A hash.
    Hash(BTreeMap<String, String>),
    /// A list.
    List(VecDeque<String>),
    /// A set.
    Set(BTreeSet<String>),
    /// A sorted set: member → score.
    SortedSet(BTreeMap<String, i64>),
}

/// Keys and what they hold.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Model {
    keys: BTreeMap<String, Value>,
}

/// A command of the model: its words.
pub type Words = Vec<String>;

/// A random command on one of the keys that begin with `prefix`; each key name is bound to one type.
pub fn random_command(dice: &mut fastrand::Rng, prefix: &str) -> Words {
    let number = dice.u32(..12);
    let (member, value) = (format!("m{}", dice.u32(..40)), format!("v{}", dice.u64(..)));
    let command: &[&str] = match dice.u32(..16) {
        0 | 1 => &["SET", "s", &value],
        2 => &["APPEND", "s", "+"],
        3 => &["INCRBY", "n", &dice.u32(..1000).to_string()],
        4 | 5 => &["HSET", "h", &member, &value],
        6 => &["HDEL", "h", &member],
        7 => &["RPUSH", "l", &value, &member],
        8 => &["LPUSH", "l", &value],
        9 => &["LPOP", "l"],
        10 => &["SADD", "S", &member, &value],
        11 => &["SREM", "S", &member],
        12 => &["ZADD", "z", &dice.i32(-50..50).to_string(), &member],
        13 => &["ZREM", "z", &member],
        14 => &["ZINCRBY", "z", "3", &member],
        _ => &["DEL", ["s", "n", "h", "l", "S", "z"][dice.usize(..6)]],
    };
    let mut words: Words = command.iter().map(|&word| word.to_owned()).collect();
    words[1] = format!("{prefix}{}{number}", words[1]);
    words
}

impl Model {
    /// The key holds nothing, or what `make` makes, and then `change` changes it; an empty collection is gone.
    fn change<T>(&mut self, key: &str, empty: Value, change: impl FnOnce(&mut Value) -> T) -> T {
        let value = self.keys.entry(key.to_owned()).or_insert(empty);
        let result = change(value);
        let gone = match value {
            Value::String(_) => false,
            Value::Hash(hash) => hash.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::SortedSet(set) => set.is_empty(),
        };
        if gone {
            self.keys.remove(key);
        }
        result
    }

    /// What the command does.
    ///
    /// # Panics
    /// On a command that [`random_command`] does not make.
    pub fn apply(&mut self, words: &[String]) {
        let (key, rest) = (&words[1], &words[2..]);
        match words[0].as_str() {
            "DEL" => drop(self.keys.remove(key)),
            "SET" => drop(self.keys.insert(key.clone(), Value::String(rest[0].clone()))),
            "APPEND" => self.change(key, Value::String(String::new()), |value| match value {
                Value::String(text) => text.push_str(&rest[0]),
                other => panic!("{key} holds {other:?}"),
            }),
            "INCRBY" => self.change(key, Value::String("0".into()), |value| match value {
                Value::String(text) => {
                    let sum = text.parse::<i64>().expect("a number key")
                        + rest[0].parse::<i64>().expect("a number");
                    *text = sum.to_string();
                }
                other => panic!("{key} holds {other:?}"),
            }),
            "HSET" | "HDEL" => self.change(key, Value::Hash(BTreeMap::new()), |value| match (value, rest) {
                (Value::Hash(hash), [field, value]) => drop(hash.insert(field.clone(), value.clone())),
                (Value::Hash(hash), [field]) => drop(hash.remove(field)),
                (other, _) => panic!("{key} holds {other:?}"),
            }),
            "RPUSH" | "LPUSH" | "LPOP" => {
                self.change(key, Value::List(VecDeque::new()), |value| match value {
                    Value::List(list) if words[0] == "RPUSH" => list.extend(rest.iter().cloned()),
                    Value::List(list) if words[0] == "LPUSH" => {
                        rest.iter().for_each(|text| list.push_front(text.clone()))
                    }
                    Value::List(list) => drop(list.pop_front()),
                    other => panic!("{key} holds {other:?}"),
                })
            }
            "SADD" | "SREM" => self.change(key, Value::Set(BTreeSet::new()), |value| match value {
                Value::Set(set) if words[0] == "SADD" => set.extend(rest.iter().cloned()),
                Value::Set(set) => drop(set.remove(&rest[0])),
                other => panic!("{key} holds {other:?}"),
            }),
            "ZADD" | "ZINCRBY" | "ZREM" => {
                self.change(key, Value::SortedSet(BTreeMap::new()), |value| match value {
                    Value::SortedSet(set) if words[0] == "ZADD" => {
                        set.insert(rest[1].clone(), rest[0].parse().expect("a score"));
                    }
                    Value::SortedSet(set) if words[0] == "ZINCRBY" => {
                        *set.entry(rest[1].clone()).or_default() += rest[0].parse::<i64>().expect("a score");
                    }
                    Value::SortedSet(set) => drop(set.remove(&rest[0])),
                    other => panic!("{key} holds {other:?}"),
                })
            }
            other => panic!("the model knows no {other}"),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a node holds under the keys that begin with `prefix`.
    pub fn read(client: &mut Client, prefix: &str) -> Self {
        let pattern = format!("{prefix}*");
        let names = client.call(&["KEYS", &pattern]).array();
        let keys = names.into_iter().map(|name| {
            let key = name.text();
            let value = read_value(client, &key);
            (key, value)
        });
        Self { keys: keys.collect() }
    }

    /// How this differs from what was expected, for people.
    pub fn difference(&self, expected: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.keys.keys().chain(expected.keys.keys()).collect();
        let differing = names.into_iter().filter(|name| self.keys.get(*name) != expected.keys.get(*name));
        differing
            .map(|name| format!("{name}: {:?} instead of {:?}", self.keys.get(name), expected.keys.get(name)))
            .collect()
    }
}

fn read_value(client: &mut Client, key: &str) -> Value {
    let texts = |reply: Reply| reply.array().into_iter().map(|element| element.text()).collect::<Vec<_>>();
    match client.call(&["TYPE", key]).text().as_str() {
        "string" => Value::String(client.call(&["GET", key]).text()),
        "hash" => {
            let flat = texts(client.call(&["HGETALL", key]));
            Value::Hash(flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
        }
        "list" => Value::List(texts(client.call(&["LRANGE", key, "0", "-1"])).into()),
        "set" => Value::Set(texts(client.call(&["SMEMBERS", key])).into_iter().collect()),
        "zset" => {
            let flat = texts(client.call(&["ZRANGE", key, "0", "-1", "WITHSCORES"]));
            let pairs =
                flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse().expect("a whole score")));
            Value::SortedSet(pairs.collect())
        }
        other => panic!("{key} is of type {other}"),
    }
}
