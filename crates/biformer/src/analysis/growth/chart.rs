//! Growth as a picture.

use image::RgbImage;

use super::{Exponents, Growth, GrowthPoint};
use crate::visualize::{LogChart, LogSeries, Mark, draw_log_charts};

/// Time over tokens, of the whole attentions and of routing and attention alone where that is known.
/// Extrapolated points are rings on dashes, and the legend says so.
pub fn draw_growth(growth: &Growth) -> RgbImage {
    let mut charts = vec![chart("Whole attention", growth, |point| Some(point.ms), |e| Some(e.ms))];
    if growth.exponents.iter().all(|exponents| exponents.core_ms.is_some()) {
        let title = "Without projections";
        charts.push(chart(title, growth, |point| point.core_ms, |exponents| exponents.core_ms));
    }
    draw_log_charts(&charts)
}

fn chart(
    title: &str,
    growth: &Growth,
    ms: impl Fn(&GrowthPoint) -> Option<f64>,
    exponent: impl Fn(&Exponents) -> Option<f64>,
) -> LogChart {
    let mut series = Vec::new();
    for (color, exponents) in growth.exponents.iter().enumerate() {
        let attention = exponents.attention;
        let of_attention = || growth.points.iter().filter(|point| point.attention == attention);
        let place = |point: &GrowthPoint| Some((point.tokens as f64, ms(point)?));
        let measured = of_attention().filter(|point| !point.extrapolated);
        let last = measured.clone().next_back();
        let power = exponent(exponents).map(|power| format!(", ~ tokens^{power:.2}"));
        series.push(LogSeries {
            name: format!("{attention}{}", power.unwrap_or_default()),
            points: measured.filter_map(place).collect(),
            mark: Mark::LineWithDots,
            color,
        });
        let extrapolated = of_attention().filter(|point| point.extrapolated).filter_map(place);
        if extrapolated.clone().next().is_some() {
            series.push(LogSeries {
                name: format!("{attention}, extrapolated"),
                points: last.and_then(place).into_iter().chain(extrapolated).collect(),
                mark: Mark::DashesWithRings,
                color,
            });
        }
    }
    LogChart { title: title.to_owned(), x: "tokens", y: "ms", series }
}
