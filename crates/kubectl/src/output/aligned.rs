//! Text whose tabs end cells: neighbouring lines get their cells in columns,
//! following Go's `text/tabwriter` with a padding of two, as kubectl uses it
//! for everything that it describes.

const PADDING: usize = 2;

/// Lays out the whole text. A column is a run of neighbouring lines that all
/// have a cell there which a tab ends; the last cell of a line has no column.
pub(crate) fn format(text: &str) -> String {
    let (body, ends) = match text.strip_suffix('\n') {
        Some(body) => (body, true),
        None => (text, false),
    };
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<Vec<&str>> = body.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    column(&lines, &mut widths, 0, 0..lines.len());
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(index) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    if !ends {
        out.pop();
    }
    out
}

fn column(lines: &[Vec<&str>], widths: &mut [Vec<usize>], index: usize, range: std::ops::Range<usize>) {
    let has = |line: usize| lines[line].len() > index + 1;
    let mut line = range.start;
    while line < range.end {
        if !has(line) {
            line += 1;
            continue;
        }
        let start = line;
        while line < range.end && has(line) {
            line += 1;
        }
        let width = (start..line).map(|line| lines[line][index].chars().count() + PADDING).max();
        for cells in &mut widths[start..line] {
            cells[index] = width.unwrap_or_default();
        }
        column(lines, widths, index + 1, start..line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_in_columns() {
        let table = [
            ("", ""),
            ("a\tb\n", "a  b\n"),
            ("Name:\tx\nNamespace:\ty\n", "Name:       x\nNamespace:  y\n"),
            // A line without a tab parts columns.
            ("a\tb\nc\nlong\td\n", "a  b\nc\nlong  d\n"),
            // An empty last cell leaves the column's blanks.
            ("A:\t\nLong:\tx\n", "A:     \nLong:  x\n"),
            ("a\tb\tc\nx\ty\nlong\tlonger\tz", "a     b  c\nx     y\nlong  longer  z"),
            ("  Type\tX\n  ----\t-\n", "  Type  X\n  ----  -\n"),
        ];
        for (text, expected) in table {
            assert_eq!(format(text), expected, "{text:?}");
        }
    }
}
