//! Rows of cells in columns.

use std::io::{Result, Write};

/// Prints columns as wide as their widest cell: text to the left, numbers to the right. The first row is the
/// head.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn print(rows: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0))
        .collect();
    let is_number: Vec<bool> = (0..columns)
        .map(|column| {
            let mut body = rows.iter().skip(1).map(|row| cell(row, column));
            body.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        })
        .collect();
    for row in rows {
        let mut line = String::new();
        for (column, &width) in widths.iter().enumerate() {
            let cell = cell(row, column);
            line += &match is_number[column] {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_one_another() {
        let rows =
            [["name", "n"], ["a", "10"], ["long", "5"]].map(|row| row.map(String::from).to_vec());
        let mut out = Vec::new();
        print(&rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name   n\na     10\nlong   5\n");
    }
}
