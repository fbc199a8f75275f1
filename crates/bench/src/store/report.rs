//! The table that the benchmark prints.

use super::load::Measured;
use std::fmt;

/// All measurements.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    clients: usize,
    rounds: Vec<Measured>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, clients: usize, measured: Measured) {
        let row = self.rows.iter_mut().find(|row| row.name == name && row.clients == clients);
        match row {
            Some(row) => row.rounds.push(measured),
            None => self.rows.push(Row { name, clients, rounds: vec![measured] }),
        }
    }

    /// Adds a line below the table.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn reference(&self, clients: usize) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == "etcd" && row.clients == clients)?;
        Some(row.middle().rate)
    }
}

impl Row {
    /// The round with the middle rate.
    fn middle(&self) -> &Measured {
        let mut rounds: Vec<&Measured> = self.rounds.iter().collect();
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds[rounds.len() / 2]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, output: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            output,
            "{:<20} {:>7} {:>9} {:>9} {:>9} {:>13} {:>8}",
            "STORE", "CLIENTS", "PUTS/S", "P50 MS", "P99 MS", "SERVER CPU US", "TO ETCD"
        )?;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.clients);
        for row in rows {
            let middle = row.middle();
            let ratio = self
                .reference(row.clients)
                .map_or_else(|| "-".to_owned(), |reference| format!("{:.2}", middle.rate / reference));
            let cpu = middle.server_cpu.map_or_else(
                || "-".to_owned(),
                |cpu| format!("{:.1}", cpu * 1e6 / middle.all_puts.max(1) as f64),
            );
            writeln!(
                output,
                "{:<20} {:>7} {:>9.0} {:>9.3} {:>9.3} {:>13} {:>8}",
                row.name,
                row.clients,
                middle.rate,
                middle.p50.as_secs_f64() * 1e3,
                middle.p99.as_secs_f64() * 1e3,
                cpu,
                ratio
            )?;
        }
        for note in &self.notes {
            writeln!(output, "{note}")?;
        }
        let puts: usize = self.rows.iter().flat_map(|row| &row.rounds).map(|round| round.puts).sum();
        write!(output, "{puts} puts of 256 to 1024 bytes, each durable before its answer")
    }
}
