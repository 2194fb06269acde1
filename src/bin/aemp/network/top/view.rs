//! Draws `top` on a terminal: the model as tables.

use super::model::{Figures, Kind, Model, Row as Node};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, List, Paragraph, Row, Table, TableState};

/// A function that draws a part of the lower half.
type Panel = fn(&mut Frame<'_>, Rect, &Model);

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, now: &str) {
    let below = 10.min(frame.area().height / 2);
    let [head, nodes, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(below),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, model, now);
    draw_nodes(frame, nodes, model);
    let panels: &[(Constraint, Panel)] = match lower.width {
        0..=57 => &[(Constraint::Fill(1), draw_events)],
        58..=79 => &[(Constraint::Fill(1), draw_links), (Constraint::Fill(1), draw_events)],
        80.. => &[
            (Constraint::Percentage(42), draw_links),
            (Constraint::Percentage(20), draw_families),
            (Constraint::Percentage(38), draw_events),
        ],
    };
    let areas = Layout::horizontal(panels.iter().map(|(width, _)| *width)).split(lower);
    for ((_, draw), area) in panels.iter().zip(areas.iter()) {
        draw(frame, *area, model);
    }
    let keys = Line::from(" q quit   ↑↓ select a node").style(Style::new().fg(Color::DarkGray));
    frame.render_widget(Paragraph::new(keys), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, now: &str) {
    let globals = model.rows.values().filter(|row| row.is_global).count();
    let silent = model.rows.values().filter(|row| row.problem.is_some()).count();
    let silent = match silent {
        0 => String::new(),
        count => format!(", {count} without answer"),
    };
    let mut text = format!(
        " aemp top   {} nodes, {globals} global{silent}, {} links",
        model.rows.len(),
        model.link_count()
    );
    let time = format!("   {now} UTC");
    if text.len() + time.len() <= usize::from(area.width) {
        text.push_str(&time);
    }
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(text).style(style), area);
}

/// A column of the table of nodes: its name, the width that it needs, and its content.
struct Column {
    name: &'static str,
    width: u16,
    /// On a narrow screen columns with smaller numbers are preferred.
    rank: u8,
    cell: fn(&str, &Node) -> Cell<'static>,
}

const COLUMNS: &[Column] = &[
    column("NODE", 16, 0, |node, _| Cell::from(node.to_owned())),
    column("SOFTWARE", 11, 6, |_, row| Cell::from(row.software())),
    column("ROLE", 12, 2, |_, row| Cell::from(row.role())),
    column("UP", 8, 7, |_, row| right(row.uptime.map(duration))),
    column("LINKS", 5, 5, |_, row| {
        right((row.kind != Kind::Unknown).then(|| row.links.len().to_string()))
    }),
    column("PORTS", 5, 9, |_, row| right(row.ports.map(|ports| ports.to_string()))),
    column("PKT/S", 7, 3, |_, row| {
        right(row.total(|figures| figures.packets_per_second).map(rate))
    }),
    column("OCTETS/S", 8, 4, |_, row| {
        right(row.total(|figures| figures.octets_per_second).map(scaled))
    }),
    column("WAITING", 8, 8, |_, row| {
        right(row.total(|figures| figures.waiting as f64).map(scaled))
    }),
    column("ANSWER", 9, 1, |_, row| state(row)),
];

const fn column(
    name: &'static str,
    width: u16,
    rank: u8,
    cell: fn(&str, &Node) -> Cell<'static>,
) -> Column {
    Column { name, width, rank, cell }
}

impl Column {
    /// Columns with names of any length, which share the remaining width.
    fn is_text(&self) -> bool {
        matches!(self.name, "NODE" | "SOFTWARE" | "ROLE")
    }

    fn constraint(&self) -> Constraint {
        match self.name {
            "NODE" | "ROLE" => Constraint::Min(self.width),
            _ => Constraint::Length(self.width),
        }
    }
}

/// The columns that fit side by side, chosen by importance.
fn fitting(width: u16) -> Vec<&'static Column> {
    let mut by_rank: Vec<&Column> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut left = width + 1;
    let taken = by_rank.into_iter().take_while(|column| {
        let fits = left > column.width;
        left = left.saturating_sub(column.width + 1);
        fits
    });
    let least = taken.map(|column| column.rank).max().unwrap_or_default();
    COLUMNS.iter().filter(|column| column.rank <= least).collect()
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let columns = fitting(area.width);
    let rows = model.rows.iter().map(|(node, row)| {
        let style = match (row.problem.is_some(), row.warnings.is_empty(), row.is_global) {
            (true, ..) => Style::new().fg(Color::Red),
            (_, false, _) => Style::new().fg(Color::Yellow),
            (.., true) => Style::new().fg(Color::Cyan),
            _ => Style::new(),
        };
        Row::new(columns.iter().map(|column| (column.cell)(node, row))).style(style)
    });
    let names = columns.iter().map(|column| match column.is_text() {
        true => Cell::from(column.name),
        false => right(Some(column.name.into())),
    });
    let table = Table::new(rows, columns.iter().map(|column| column.constraint()))
        .header(Row::new(names).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selected = TableState::new();
    selected.select(model.selected().map(|(index, ..)| index));
    frame.render_stateful_widget(table, area, &mut selected);
}

fn right(text: Option<String>) -> Cell<'static> {
    Cell::from(Line::from(text.unwrap_or_else(|| "-".into())).right_aligned())
}

fn state(row: &Node) -> Cell<'static> {
    let text = match (&row.problem, row.milliseconds) {
        (Some(_), _) => "none".into(),
        (None, Some(milliseconds)) => format!("{milliseconds:.1} ms"),
        (None, None) => "...".into(),
    };
    right(Some(text))
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some((_, node, row)) = model.selected() else {
        frame.render_widget(Block::bordered().title("links"), area);
        return;
    };
    let block = Block::bordered().title(format!("links of {node}"));
    let block = match row.warnings.is_empty() {
        true => block,
        false => block.title_bottom(row.warnings.join("; ")),
    };
    if let Some(problem) = &row.problem {
        let text = Paragraph::new(problem.clone()).wrap(ratatui::widgets::Wrap { trim: true });
        frame.render_widget(text.block(block), area);
        return;
    }
    let is_wide = area.width >= 48;
    let shows_protection = area.width >= 62;
    let rows = row.links.iter().map(|link| {
        let figure = |get: fn(&Figures) -> String| right(link.figures.as_ref().map(get));
        let mut cells = vec![
            Cell::from(link.node.clone()),
            figure(|figures| rate(figures.packets_per_second)),
            figure(|figures| scaled(figures.octets_per_second)),
        ];
        if is_wide {
            cells.push(figure(|figures| scaled(figures.waiting as f64)));
            cells.push(figure(|figures| figures.framing.clone()));
        }
        if shows_protection {
            cells.push(figure(|figures| figures.protection.clone()));
        }
        Row::new(cells)
    });
    let mut names = vec!["PKT/S", "OCTETS/S"];
    let mut widths = vec![Constraint::Min(10), Constraint::Length(7), Constraint::Length(8)];
    if is_wide {
        names.extend(["WAITING", "FRAMING"]);
        widths.extend([Constraint::Length(8), Constraint::Length(8)]);
    }
    if shows_protection {
        names.push("PROTECTION");
        widths.push(Constraint::Length(12));
    }
    let names = names.into_iter().map(|name| right(Some(name.into())));
    let table = Table::new(rows, widths)
        .header(
            Row::new([Cell::from("NODE")].into_iter().chain(names))
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .block(block);
    frame.render_widget(table, area);
}

fn draw_families(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.families.iter().map(|(family, keys)| {
        Row::new([Cell::from(family.clone()), right(Some(keys.to_string()))])
    });
    let table = Table::new(rows, [Constraint::Min(6), Constraint::Length(6)])
        .header(
            Row::new([Cell::from("FAMILY"), right(Some("KEYS".into()))])
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .block(Block::bordered().title("database"));
    frame.render_widget(table, area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let lines = model.events.iter().map(|event| {
        Line::from(vec![
            Span::styled(event.at.clone(), Style::new().fg(Color::DarkGray)),
            Span::raw(" "),
            Span::raw(event.text.clone()),
        ])
    });
    let list = List::new(lines.collect::<Vec<_>>()).block(Block::bordered().title("events"));
    frame.render_widget(list, area);
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => scaled(rate),
    }
}

fn scaled(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut number = number;
    let mut unit = 0;
    while number >= 1000.0 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && number < 100.0);
    format!("{number:.digits$}{}", UNITS.get(unit).copied().unwrap_or_default())
}

fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::top::model::{Answer, Report};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn numbers_are_short() {
        assert_eq!(scaled(999.0), "999");
        assert_eq!(scaled(1234.0), "1.2k");
        assert_eq!(scaled(123_456_789.0), "123M");
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(duration(59.9), "59s");
        assert_eq!(duration(3725.0), "1h02m");
        assert_eq!(duration(90_000.0), "1d01h");
    }

    fn mixed_network() -> Model {
        let mut model = Model::new("top".into());
        model.set_nodes(["perl".to_owned(), "rust".to_owned()].into(), "12:00:00");
        let answer = Answer::Perl { master: Some("rust".into()), neighbours: vec!["rust".into()] };
        let kind = Kind::Perl("2.02".into());
        let report = Report { node: "perl".into(), kind, milliseconds: Some(0.4), answer };
        model.report(report, "12:00:01");
        model.happened("12:00:02", "something happened".into());
        model
    }

    fn screen(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, "12:00:03")).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_mixed_network_fits_on_a_screen() {
        let model = mixed_network();
        for (width, height) in [(120, 30), (80, 24), (20, 5), (1, 1)] {
            let screen = screen(&model, width, height);
            if width == 120 {
                for part in ["2 nodes", "Perl 2.02", "slave of rust", "something happened"] {
                    assert!(screen.contains(part), "{part}: {screen}");
                }
            }
        }
    }

    #[test]
    fn no_heading_is_cut() {
        let headings = ["FAMILY", "KEYS", "FRAMING"];
        let headings = COLUMNS.iter().map(|column| column.name).chain(headings);
        let headings: Vec<&str> = headings.collect();
        for width in (16..=120).step_by(4) {
            let screen = screen(&mixed_network(), width, 24);
            let is_heading = |word: &&str| {
                let letters = word.trim_matches(['"', '\u{2502}']);
                letters.len() > 1
                    && letters.chars().all(|c| c.is_ascii_uppercase() || c == '/')
                    && letters != "UTC"
            };
            let found: Vec<&str> = screen.split_whitespace().filter(is_heading).collect();
            let found: Vec<&str> =
                found.into_iter().map(|word| word.trim_matches(['"', '\u{2502}'])).collect();
            let cut: Vec<&&str> = found.iter().filter(|word| !headings.contains(word)).collect();
            assert!(found.contains(&"NODE") && cut.is_empty(), "{width}: {cut:?}: {screen}");
        }
    }

    #[test]
    fn a_narrow_screen_has_the_most_important_columns() {
        let names =
            |width| -> Vec<&str> { fitting(width).into_iter().map(|column| column.name).collect() };
        assert_eq!(names(16), ["NODE"]);
        assert_eq!(names(60), ["NODE", "ROLE", "PKT/S", "OCTETS/S", "ANSWER"]);
        assert_eq!(names(100).len(), COLUMNS.len());
    }
}
