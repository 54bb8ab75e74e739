//! Tables for people, as runc prints them.

use std::io::{self, Write};

/// The least width of a column, and the blanks between two, as in runc's tables.
const WIDTH: usize = 12;
const GAP: usize = 3;

/// Every row but the last column is padded to the widest of its column.
pub(crate) fn print(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or_default().max(WIDTH)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == last {
                writeln!(out, "{cell}")?;
            } else {
                write!(out, "{cell:<width$}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut out = Vec::new();
        print(&mut out, &[row(["ID", "PID"]), row(["a-rather-long-id", "7"])]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID                 PID\na-rather-long-id   7\n");
    }
}
