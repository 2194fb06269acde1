//! `top` on a terminal: the model as tables.

use super::model::{Figures, Kind, Model, Row as Node};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, List, Paragraph, Row, Table, TableState};

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
    let [links, families, events] = Layout::horizontal([
        Constraint::Percentage(42),
        Constraint::Percentage(20),
        Constraint::Percentage(38),
    ])
    .areas(lower);
    draw_head(frame, head, model, now);
    draw_nodes(frame, nodes, model);
    draw_links(frame, links, model);
    draw_families(frame, families, model);
    draw_events(frame, events, model);
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
    let text = format!(
        " aemp top   {} nodes, {globals} global{silent}, {} links   {now} UTC",
        model.rows.len(),
        model.link_count()
    );
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(text).style(style), area);
}

/// A column of the table of nodes: its name, its width, whether a narrow screen has it, and what
/// stands in it.
struct Column {
    name: &'static str,
    width: Constraint,
    always: bool,
    cell: fn(&str, &Node) -> Cell<'static>,
}

const COLUMNS: &[Column] = &[
    column("NODE", Constraint::Min(16), true, |node, _| Cell::from(node.to_owned())),
    column("SOFTWARE", Constraint::Length(11), true, |_, row| Cell::from(row.software())),
    column("ROLE", Constraint::Min(12), true, |_, row| Cell::from(row.role())),
    column("UP", Constraint::Length(8), false, |_, row| right(row.uptime.map(duration))),
    column("LINKS", Constraint::Length(5), true, |_, row| {
        right((row.kind != Kind::Unknown).then(|| row.links.len().to_string()))
    }),
    column("PORTS", Constraint::Length(5), false, |_, row| {
        right(row.ports.map(|ports| ports.to_string()))
    }),
    column("PKT/S", Constraint::Length(7), true, |_, row| {
        right(row.total(|figures| figures.packets_per_second).map(rate))
    }),
    column("OCTETS/S", Constraint::Length(8), true, |_, row| {
        right(row.total(|figures| figures.octets_per_second).map(scaled))
    }),
    column("WAITING", Constraint::Length(8), false, |_, row| {
        right(row.total(|figures| figures.waiting as f64).map(scaled))
    }),
    column("ANSWER", Constraint::Length(9), true, |_, row| state(row)),
];

const fn column(
    name: &'static str,
    width: Constraint,
    always: bool,
    cell: fn(&str, &Node) -> Cell<'static>,
) -> Column {
    Column { name, width, always, cell }
}

/// From this width on all columns fit.
const WIDE: u16 = 100;

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| column.always || area.width >= WIDE).collect();
    let rows = model.rows.iter().map(|(node, row)| {
        let style = match (row.is_global, row.problem.is_some()) {
            (_, true) => Style::new().fg(Color::Red),
            (true, _) => Style::new().fg(Color::Cyan),
            _ => Style::new(),
        };
        Row::new(columns.iter().map(|column| (column.cell)(node, row))).style(style)
    });
    let names = columns.iter().map(|column| match column.name {
        "NODE" | "SOFTWARE" | "ROLE" => Cell::from(column.name),
        name => right(Some(name.into())),
    });
    let table = Table::new(rows, columns.iter().map(|column| column.width))
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
    if let Some(problem) = &row.problem {
        let text = Paragraph::new(problem.clone()).wrap(ratatui::widgets::Wrap { trim: true });
        frame.render_widget(text.block(block), area);
        return;
    }
    let is_wide = area.width >= 48;
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
        Row::new(cells)
    });
    let mut names = vec!["PKT/S", "OCTETS/S"];
    let mut widths = vec![Constraint::Min(10), Constraint::Length(7), Constraint::Length(8)];
    if is_wide {
        names.extend(["WAITING", "FRAMING"]);
        widths.extend([Constraint::Length(8), Constraint::Length(8)]);
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

    #[test]
    fn a_mixed_network_fits_on_a_screen() {
        let mut model = Model::new("top".into());
        model.set_nodes(["perl".to_owned(), "rust".to_owned()].into(), "12:00:00");
        let answer = Answer::Perl { master: Some("rust".into()), neighbours: vec!["rust".into()] };
        let kind = Kind::Perl("2.02".into());
        let report = Report { node: "perl".into(), kind, milliseconds: Some(0.4), answer };
        model.report(report, "12:00:01");
        model.happened("12:00:02", "something happened".into());
        for (width, height) in [(120, 30), (80, 24), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &model, "12:00:03")).unwrap();
            let screen = terminal.backend().to_string();
            if width == 120 {
                for part in ["2 nodes", "Perl 2.02", "slave of rust", "something happened"] {
                    assert!(screen.contains(part), "{part}: {screen}");
                }
            }
        }
    }
}
