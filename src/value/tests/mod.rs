//! Conversion between Rust types and Perl values.

mod foreign;
mod properties;
mod refusals;
mod shapes;
mod tags;

use super::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// `value` as a message, as text.
fn message<T: Serialize + ?Sized>(value: &T) -> String {
    Packed::of(value).unwrap().to_string()
}

/// Checks that `value` becomes the message `shown` and is read back from it.
#[track_caller]
fn goes<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, shown: &str) {
    let packed = Packed::of(&value).unwrap();
    assert_eq!(packed.to_string(), shown);
    assert_eq!(packed.decode::<T>().unwrap(), value);
    // And as a value inside of a message.
    let nested = Packed::of(&(1, (&value, 2))).unwrap();
    let (_, (inner, after)) = nested.decode::<(u8, (T, u8))>().unwrap();
    assert_eq!((inner, after), (value, 2));
}

/// The error of decoding the message `value` as a `T`.
#[track_caller]
fn error<T: DeserializeOwned + Debug>(value: impl Serialize) -> String {
    let packed = Packed::of(&value).unwrap();
    packed.decode::<T>().unwrap_err().to_string()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(u8, Option<String>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapper(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Chat {
    Quit,
    Nick(String),
    Privmsg(String, Option<u32>),
    Move { x: i8, y: i8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Vec<Tree>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Layers(Option<Box<Layers>>);

fn list(len: usize) -> List {
    (1..len).fold(List { next: None }, |list, _| {
        let next = Some(Box::new(list));
        List { next }
    })
}
