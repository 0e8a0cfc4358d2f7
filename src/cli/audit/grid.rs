//! Opcode maps for terminals.

use std::io::{self, IsTerminal, Write};
use table86::audit::opcode_map::{CellState, Grid, grids};

/// Whether to colour standard output: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn has_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A cell's character, in its state's colour.
fn symbol(state: CellState, colours: bool) -> String {
    let symbol = state.symbol();
    let colour = match state {
        CellState::Verified => "32",
        CellState::Implemented => "36",
        CellState::Partly => "33",
        CellState::Missing => "31",
        CellState::Prefix => "34",
        CellState::Undefined => "2",
    };
    if colours { format!("\x1b[{colour}m{symbol}\x1b[0m") } else { symbol.to_string() }
}

/// A grid's lines, padded to the same width; and that width.
fn drawn(grid: &Grid, colours: bool) -> (Vec<String>, usize) {
    let head = grid.lines.iter().map(|(head, _)| head.len()).max().unwrap_or(0);
    let cell = grid.columns.iter().map(String::len).max().unwrap_or(1) + 1;
    let width = (head + cell * grid.columns.len()).max(grid.title.len());
    let mut lines = vec![format!("{:<width$}", grid.title)];
    let columns: String = grid.columns.iter().map(|column| format!("{column:>cell$}")).collect();
    lines.push(format!("{:<width$}", format!("{:head$}{columns}", "")));
    for (name, cells) in &grid.lines {
        let symbols =
            cells.iter().map(|one| format!("{:pad$}{}", "", symbol(one.state(), colours), pad = cell - 1));
        let rest = width - head - cell * cells.len();
        lines.push(format!("{name:<head$}{}{:rest$}", symbols.collect::<String>(), ""));
    }
    (lines, width)
}

/// Draws all maps, two side by side where they fit into 80 columns.
pub(super) fn draw(out: &mut impl Write) -> io::Result<()> {
    let colours = has_colours();
    let legend = CellState::ALL.map(|state| format!("{} {}", symbol(state, colours), state.name()));
    writeln!(out, "{}", legend.join("   "))?;
    let grids = grids();
    let drawn: Vec<(Vec<String>, usize)> = grids.iter().map(|grid| drawn(grid, colours)).collect();
    let mut rest = &drawn[..];
    while let [(first, first_width), more @ ..] = rest {
        writeln!(out)?;
        rest = more;
        match more {
            [(second, second_width), more @ ..]
                if first_width + second_width + 4 <= 80 && first.len() == second.len() =>
            {
                rest = more;
                for (left, right) in first.iter().zip(second) {
                    writeln!(out, "{left}    {}", right.trim_end())?;
                }
            }
            _ => {
                for line in first {
                    writeln!(out, "{}", line.trim_end())?;
                }
            }
        }
    }
    Ok(())
}
