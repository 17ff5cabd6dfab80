//! Comma-separated values under a header, whose columns are found by their names: their order and further ones do not matter.
//!
//! Invariant: knows no column of any format.

use std::borrow::Cow;
use std::str::FromStr;

use super::row::unknown;

/// What the header said.
pub(super) struct Table {
    /// The columns that are read.
    names: &'static [&'static str],
    /// How many of them, from the first, must be there.
    required: usize,
    /// Where each stands; empty before the header.
    places: Vec<Option<usize>>,
}

/// A row. A cell is asked for by the place of its column among the names.
pub(super) struct Cells<'a> {
    table: &'a Table,
    fields: Vec<Cow<'a, str>>,
}

impl Table {
    /// A table of which nothing was read.
    pub(super) fn new(names: &'static [&'static str], required: usize) -> Table {
        Table { names, required, places: Vec::new() }
    }

    /// The row of a line; `None` for an empty line and for a header, which files that were joined repeat.
    ///
    /// # Errors
    /// No UTF-8, quotes that are not closed, a header without a required column; in words.
    pub(super) fn row<'a>(&'a mut self, line: &'a [u8]) -> Result<Option<Cells<'a>>, String> {
        if line.is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(line).map_err(|_| "it is no UTF-8")?;
        let fields = split(text)?;
        if self.places.is_empty() {
            self.places =
                self.names.iter().map(|name| fields.iter().position(|field| field.trim() == *name)).collect();
            let missing =
                self.names[..self.required].iter().zip(&self.places).find(|(_, place)| place.is_none());
            return missing.map_or(Ok(None), |(name, _)| Err(format!("the header has no column '{name}'")));
        }
        if self.places[0].is_some_and(|place| fields.get(place).is_some_and(|field| field == self.names[0])) {
            return Ok(None);
        }
        Ok(Some(Cells { table: self, fields }))
    }
}

impl Cells<'_> {
    /// The text of a cell; `None` when it is empty or not there.
    pub(super) fn text(&self, column: usize) -> Option<&str> {
        let field = self.fields.get(self.table.places[column]?)?;
        (!field.is_empty()).then_some(field)
    }

    /// The text of a cell that must not be empty.
    pub(super) fn required(&self, column: usize) -> Result<&str, String> {
        self.text(column).ok_or_else(|| format!("{} is empty", self.table.names[column]))
    }

    /// A cell as a number or an address; `None` when it is empty or not there.
    pub(super) fn number<T: FromStr>(&self, column: usize) -> Result<Option<T>, String> {
        let text = self.text(column).map(str::trim);
        text.map(|text| text.parse().map_err(|_| unknown(self.table.names[column], text))).transpose()
    }
}

/// The fields of a line (RFC 4180 section 2, without line breaks inside of quotes).
fn split(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut fields = Vec::with_capacity(20);
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            fields.push(Cow::Borrowed(&rest[..end]));
            match rest.get(end + 1..) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let end = closing_quote(quoted).ok_or("a quote is not closed")?;
        let text = &quoted[..end];
        fields.push(if text.contains('"') { text.replace("\"\"", "\"").into() } else { text.into() });
        match quoted.as_bytes().get(end + 1) {
            None => return Ok(fields),
            Some(b',') => rest = &quoted[end + 2..],
            Some(_) => return Err("text follows a closing quote".into()),
        }
    }
}

/// Where the quote stands that ends a field; doubled ones do not.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == b'"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_as_rfc_4180_has_them() {
        for (line, fields) in [
            ("a,b,,c", &["a", "b", "", "c"][..]),
            ("", &[""]),
            ("a,", &["a", ""]),
            ("\"a,b\",\"c\"\"d\",\"\"", &["a,b", "c\"d", ""]),
        ] {
            assert_eq!(split(line).expect(line), fields);
        }
        for line in ["\"a", "\"a\"b", "a,\"\"\""] {
            assert!(split(line).is_err(), "{line}");
        }
    }

    #[test]
    fn cells_are_found_by_the_name_of_their_column() {
        let mut table = Table::new(&["a", "b", "c"], 1);
        assert!(table.row(b"").expect("empty").is_none());
        assert!(table.row(b"c,more,a").expect("a header").is_none());
        let cells = table.row(b"3,x,\"1,\"").expect("reads").expect("a row");
        assert_eq!((cells.text(0), cells.text(1), cells.number::<u8>(2)), (Some("1,"), None, Ok(Some(3))));
        assert_eq!(cells.required(1), Err("b is empty".into()));
        assert!(table.row(b"c,more,a").expect("the header of the next file").is_none());
        assert_eq!(Table::new(&["a"], 1).row(b"b").err().expect("no a"), "the header has no column 'a'");
    }
}
