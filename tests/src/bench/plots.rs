//! Pictures as SVG: bars side by side, and lines. They are read on white and on black, so they bring their own background.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 420);
const COLORS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xd6, 0x52, 0x2a),
    RGBColor(0x3c, 0x94, 0x52),
    RGBColor(0x80, 0x62, 0xa8),
];

/// A line or the bars of one server.
pub struct Series {
    /// Its name, for the legend.
    pub name: String,
    /// Bars: a value for each label. Lines: points.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Bars, one for each label.
    pub fn bars(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let points = values.into_iter().enumerate().map(|(index, value)| (index as f64, value)).collect();
        Self { name: name.to_owned(), points }
    }

    /// A line.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points }
    }
}

/// Groups of bars, one group for each label; `marks`: lines across, such as goals.
///
/// # Errors
/// When the picture cannot be drawn.
pub fn bars(title: &str, axis: &str, labels: &[String], series: &[Series], marks: &[f64]) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let top = largest(series.iter().flat_map(|series| series.points.iter().map(|point| point.1)))
            .max(largest(marks.iter().copied()));
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(90)
            .y_label_area_size(64)
            .build_cartesian_2d(
                -0.5..labels.len() as f64 - 0.5,
                0.0..top * if series.len() > 1 { 1.35 } else { 1.12 },
            )
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(axis)
            .light_line_style(WHITE)
            .draw()
            .map_err(drawing)?;
        let width = 0.8 / series.len().max(1) as f64;
        for (place, own) in series.iter().enumerate() {
            let color = COLORS[place % COLORS.len()];
            let left = move |index: f64| index - 0.4 + place as f64 * width;
            let bars = own.points.iter().filter(|point| point.1.is_finite());
            let drawn = chart
                .draw_series(bars.map(|&(index, value)| {
                    Rectangle::new([(left(index), 0.0), (left(index) + width * 0.94, value)], color.filled())
                }))
                .map_err(drawing)?;
            if series.len() > 1 {
                drawn
                    .label(own.name.clone())
                    .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
            }
        }
        for &mark in marks {
            let ends = [(-0.5, mark), (labels.len() as f64 - 0.5, mark)];
            chart.draw_series(DashedLineSeries::new(ends, 6, 4, BLACK.stroke_width(1))).map_err(drawing)?;
        }
        for (index, label) in labels.iter().enumerate() {
            let at = chart.backend_coord(&(index as f64, 0.0));
            let style = TextStyle::from(("sans-serif", 12).into_font().transform(FontTransform::Rotate90));
            area.draw(&Text::new(label.clone(), (at.0 + 6, at.1 + 6), style)).map_err(drawing)?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft, series.len() > 1)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// Lines over a linear axis; the other axis is logarithmic.
///
/// # Errors
/// When the picture cannot be drawn.
pub fn lines(
    title: &str,
    axes: (&str, &str),
    ticks: &dyn Fn(f64) -> String,
    series: &[Series],
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let points = || series.iter().flat_map(|series| series.points.iter());
        let lowest = points().map(|point| point.1).filter(|&y| y > 0.0).fold(f64::INFINITY, f64::min);
        let lowest = if lowest.is_finite() { lowest } else { 0.1 };
        let (right, top) = (largest(points().map(|point| point.0)), largest(points().map(|point| point.1)));
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..right, (lowest * 0.7..top * 1.5).log_scale())
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(axes.0)
            .y_desc(axes.1)
            .x_labels(9)
            .x_label_formatter(&|x| ticks(*x))
            .light_line_style(WHITE)
            .draw()
            .map_err(drawing)?;
        for (place, own) in series.iter().enumerate() {
            let color = COLORS[place % COLORS.len()];
            let drawable = own.points.iter().copied().filter(|point| point.1 > 0.0);
            chart
                .draw_series(LineSeries::new(drawable, color.stroke_width(2)))
                .map_err(drawing)?
                .label(own.name.clone())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight, !series.is_empty())?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn legend<
    'a,
    'b: 'a,
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
    is_wanted: bool,
) -> Result<()> {
    if is_wanted {
        chart
            .configure_series_labels()
            .position(position)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(drawing)?;
    }
    Ok(())
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if largest > 0.0 { largest } else { 1.0 }
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_lines_name_what_they_show_and_bear_what_could_not_be_measured() {
        let labels = ["SET".to_owned(), "GET".to_owned()];
        let two = [Series::bars("ours", [1.0, f64::NAN]), Series::bars("theirs", [2.0, 3.0])];
        let svg = bars("rates", "ratio", &labels, &two, &[1.15]).unwrap();
        for word in ["rates", "SET", "GET", "ours", "theirs", "<svg"] {
            assert!(svg.contains(word), "no {word} in {svg}");
        }
        let line = [Series::line("one", vec![(0.0, 1.0), (1.0, 0.0), (2.0, 900.0)])];
        let svg = lines("latency", ("s", "ms"), &|x| format!("{x:.0}"), &line).unwrap();
        assert!(svg.contains("latency") && svg.contains("<polyline"), "{svg}");
        lines("empty", ("s", "ms"), &|_| String::new(), &[]).unwrap();
        bars("empty", "ratio", &[], &[], &[]).unwrap();
    }
}
