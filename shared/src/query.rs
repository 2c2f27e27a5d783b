//! The query string of a request, read into types.
//!
//! A type that derives `Deserialize` names its parameters by its fields. Several
//! types can take theirs from one query string; what nobody took is refused.

use lambda_http::{Request, RequestExt};
use schemars::JsonSchema;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::error::Error;

/// The parameters of a request that nobody took yet.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The query string of a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let parameters = request.query_string_parameters();
        let parameters = parameters.iter();
        Self(
            parameters
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Parameters that came another way, as a form does.
    #[must_use]
    pub fn of_pairs(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The parameters that `T` has fields for.
    ///
    /// # Errors
    /// Names the one that is given twice, is missing, or can't be read.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        T::deserialize(Parameters(&mut self.0)).map_err(|Refused { field, message }| {
            let message = match &field {
                Some(field) => format!("{field}: {message}"),
                None => message,
            };
            Error::Invalid {
                code: "invalid_request",
                field,
                message,
            }
        })
    }

    /// Refuses whatever nobody took.
    ///
    /// # Errors
    /// Names the first parameter that this route does not know.
    pub fn finish(self) -> Result<(), Error> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(
                name.clone(),
                format!("this route has no parameter {name}: leave it out"),
            )),
        }
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Paging {
    /// How many entries a page has at most.
    #[serde(default)]
    #[schemars(with = "Option<usize>", range(min = 1, max = 100), extend("default" = 25))]
    pub limit: PageLimit,
    /// The `next_cursor` of the page before, with the same filter and sort.
    pub cursor: Option<String>,
}

/// How many entries a page of most lists has: 1 to 100, by default 25.
pub type PageLimit = Limit<25, 100>;

/// How many entries a page has at most: 1 to `MOST`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub struct Limit<const DEFAULT: usize, const MOST: usize>(usize);

impl<const DEFAULT: usize, const MOST: usize> Limit<DEFAULT, MOST> {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl<const DEFAULT: usize, const MOST: usize> Default for Limit<DEFAULT, MOST> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: usize, const MOST: usize> TryFrom<u64> for Limit<DEFAULT, MOST> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        let limit = usize::try_from(number).ok();
        let limit = limit.filter(|limit| (1..=MOST).contains(limit));
        limit
            .map(Self)
            .ok_or_else(|| format!("expected a number from 1 to {MOST}"))
    }
}

// ----------------------------------------------------------- how it is read

/// Why a query string can't be read.
#[derive(Debug)]
struct Refused {
    field: Option<String>,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self {
            field: None,
            message: message.to_string(),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            field: Some(field.to_owned()),
            message: "this parameter is needed".to_owned(),
        }
    }
}

/// Gives a structure the parameters that it has fields for.
struct Parameters<'a>(&'a mut Vec<(String, String)>);

impl<'de> Deserializer<'de> for Parameters<'_> {
    type Error = Refused;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let (taken, left): (Vec<_>, _) = std::mem::take(self.0)
            .into_iter()
            .partition(|(name, _)| fields.contains(&name.as_str()));
        *self.0 = left;
        for (index, (name, _)) in taken.iter().enumerate() {
            if taken[..index].iter().any(|(other, _)| other == name) {
                return Err(Refused {
                    field: Some(name.clone()),
                    message: "give it once only".to_owned(),
                });
            }
        }
        visitor.visit_map(Taken {
            left: taken.into_iter(),
            current: None,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(serde::de::Error::custom(
            "a query string is read into a structure",
        ))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Taken {
    left: std::vec::IntoIter<(String, String)>,
    current: Option<(String, String)>,
}

impl<'de> MapAccess<'de> for Taken {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.current = self.left.next();
        let Some((name, _)) = &self.current else {
            return Ok(None);
        };
        let name: StringDeserializer<Refused> = name.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (name, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Value(value)).map_err(|refused| Refused {
            field: Some(name),
            ..refused
        })
    }
}

/// One value: text, or what it is read as where something else is wanted.
struct Value(String);

impl<'de> Deserializer<'de> for Value {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0.as_str() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(serde::de::Error::custom("expected true or false")),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let number = self.0.parse();
        visitor.visit_u64(number.map_err(|_| serde::de::Error::custom("expected a whole number"))?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        colour: Option<Colour>,
        size: Option<u32>,
        #[serde(default)]
        washed: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        LightRed,
    }

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn each_type_takes_its_own_parameters() {
        let mut query = query(&[
            ("size", "7"),
            ("limit", "100"),
            ("colour", "light_red"),
            ("other", ""),
        ]);
        let wanted: Wanted = query.take().unwrap();
        assert_eq!(
            wanted,
            Wanted {
                colour: Some(Colour::LightRed),
                size: Some(7),
                washed: false
            }
        );
        let paging: Paging = query.take().unwrap();
        assert_eq!((paging.limit.get(), paging.cursor), (100, None));
        let Err(Error::Invalid { field, .. }) = query.finish() else {
            panic!("what nobody took is refused");
        };
        assert_eq!(field.as_deref(), Some("other"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for (pairs, name) in [
            (&[("size", "many")][..], "size"),
            (&[("size", "-1")], "size"),
            (&[("size", "4294967296")], "size"),
            (&[("size", "")], "size"),
            (&[("washed", "yes")], "washed"),
            (&[("colour", "blue")], "colour"),
            (&[("colour", "light_red"), ("colour", "light_red")], "colour"),
        ] {
            let Err(Error::Invalid { field, message, .. }) = query(pairs).take::<Wanted>() else {
                panic!("{pairs:?} was read");
            };
            assert_eq!(field.as_deref(), Some(name), "{message}");
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn a_page_has_one_to_a_hundred_entries() {
        assert_eq!(query(&[]).take::<Paging>().unwrap().limit.get(), 25);
        for limit in ["0", "101", "-1", "ten", "", "1e1"] {
            assert!(query(&[("limit", limit)]).take::<Paging>().is_err(), "{limit}");
        }
    }
}
