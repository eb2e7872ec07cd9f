//! Curves and confusion matrices: their sizes, what is inked where, and odd input.

use std::collections::BTreeMap;

use biformer::visualize::{
    BarChart, Chart, Confusions, Curve, LogChart, LogSeries, Mark, draw_bar_charts, draw_charts,
    draw_confusions, draw_log_charts,
};
use image::{Rgb, RgbImage};

const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
/// The first colours of the curves.
const BLUE: Rgb<u8> = Rgb([31, 119, 180]);
const ORANGE: Rgb<u8> = Rgb([255, 127, 14]);

fn chart(points: &[f64]) -> Chart<'_> {
    let points = points.iter().enumerate().map(|(epoch, &value)| (epoch + 1, value)).collect();
    Chart { title: "Loss", curves: vec![Curve { name: "train", points }] }
}

fn pixels(picture: &RgbImage, color: Rgb<u8>) -> usize {
    picture.pixels().filter(|&&pixel| pixel == color).count()
}

#[test]
fn charts_stand_side_by_side() {
    let one = draw_charts(&[chart(&[2.0, 1.0, 0.5])]);
    let two = draw_charts(&[chart(&[2.0, 1.0, 0.5]), chart(&[0.1, 0.2, 0.3])]);
    assert_eq!(two.dimensions(), (2 * one.width(), one.height()));
    assert!(pixels(&one, BLUE) > 300, "a curve of {} pixels", pixels(&one, BLUE));
    assert_eq!(pixels(&one, ORANGE), 0);
}

#[test]
fn each_curve_has_its_color() {
    let mut chart = chart(&[2.0, 1.0, 0.5]);
    chart.curves.push(Curve { name: "val", points: vec![(1, 1.5), (2, 1.2), (3, 1.1)] });
    let picture = draw_charts(&[chart]);
    assert!(pixels(&picture, BLUE) > 300 && pixels(&picture, ORANGE) > 300);
}

/// The labels of the axes need neither fonts of the system nor room beyond the margins.
#[test]
fn text_is_inked_and_stays_inside() {
    let picture = draw_charts(&[chart(&[1e-9, 123_456_789.0, -5.0])]);
    let dark = |pixel: &&Rgb<u8>| pixel.0.iter().all(|&channel| channel < 100);
    assert!(picture.pixels().filter(dark).count() > 200, "no text");
    let (right, bottom) = (picture.width() - 1, picture.height() - 1);
    for y in 0..=bottom {
        assert_eq!([picture[(0, y)], picture[(right, y)]], [WHITE; 2], "row {y}");
    }
}

#[test]
fn odd_values_are_drawn_or_left_out() {
    let [nan, infinite] = [f64::NAN, f64::INFINITY];
    for points in [&[][..], &[1.0], &[0.0, 0.0], &[nan], &[nan, infinite], &[1e300, -1e300]] {
        draw_charts(&[chart(points)]);
    }
    let with_gap = draw_charts(&[chart(&[1.0, nan, 0.5])]);
    assert!(pixels(&with_gap, BLUE) > 20, "points without neighbours are dots");
}

/// With curves through three of the corners, the legend is in the fourth.
#[test]
fn the_legend_keeps_out_of_the_way() {
    let falls: Vec<f64> = (0..30).map(|epoch| (-f64::from(epoch) / 5.0).exp()).collect();
    let rises: Vec<f64> = falls.iter().map(|value| 1.0 - value).collect();
    let [falling, rising] = [&falls, &rises].map(|values| draw_charts(&[chart(values)]));
    // Of the two lines in blue the legend's is flat: half a panel above or below the other's.
    let inked_rows = |picture: &RgbImage| {
        let is_flat = |y: &u32| {
            let blue = (0..picture.width()).filter(|&x| picture[(x, *y)] == BLUE).count();
            (16..24).contains(&blue)
        };
        (0..picture.height()).filter(is_flat).collect::<Vec<u32>>()
    };
    let half = falling.height() / 2;
    assert!(inked_rows(&falling).iter().any(|&row| row < half), "{:?}", inked_rows(&falling));
    assert!(inked_rows(&rising).iter().any(|&row| row > half), "{:?}", inked_rows(&rising));
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("class {index}")).collect()
}

fn confusions(names: &[String], counts: &[((usize, usize), usize)], normalized: bool) -> RgbImage {
    let counts: BTreeMap<_, _> = counts.iter().copied().collect();
    draw_confusions(&Confusions { rows: names, columns: names, counts: &counts, normalized })
}

#[test]
fn the_fullest_cell_is_the_darkest() {
    let names = names(2);
    let counts = [((0, 0), 30), ((0, 1), 10), ((1, 1), 10)];
    let darkest = Rgb([8, 48, 107]);
    let [counted, shares] = [false, true].map(|shares| confusions(&names, &counts, shares));
    // Only the first cell; of the shares the whole second row too, here in one cell.
    assert!(pixels(&counted, darkest) > 500 && pixels(&shares, darkest) > 500);
    assert_ne!(counted, shares);
}

#[test]
fn many_classes_have_no_names_and_a_limited_size() {
    let diagonal = |count: usize| (0..count).map(|i| ((i, i), 1 + i)).collect::<Vec<_>>();
    let picture = |count: usize| confusions(&names(count), &diagonal(count), false);
    assert!(picture(50).width() > picture(20).width());
    for count in [51, 1000, 5000] {
        let [side, height] = [picture(count).width(), picture(count).height()];
        assert!(side < 1200 && height < 1200, "{count} classes: {side} × {height}");
    }
}

#[test]
fn one_class_no_pictures_and_a_column_more() {
    confusions(&names(1), &[((0, 0), 3)], true);
    confusions(&names(3), &[], false);
    confusions(&names(3), &[], true);
    let (rows, columns) = (names(2), names(3));
    let counts = BTreeMap::from([((1, 2), 4)]);
    for normalized in [false, true] {
        draw_confusions(&Confusions {
            rows: &rows,
            columns: &columns,
            counts: &counts,
            normalized,
        });
    }
}

#[test]
#[should_panic(expected = "classes: got: 0")]
fn no_classes_is_a_mistake() {
    confusions(&[], &[], false);
}

/// Bars are as long as their numbers.
#[test]
fn bars_begin_at_zero() {
    let bars = vec![("long".to_owned(), 4.0), ("short".to_owned(), 2.0)];
    let chart = BarChart { title: "Speed".to_owned(), x: "images/s", bars };
    let picture = draw_bar_charts(&[chart]);
    let [long, short] = [BLUE, ORANGE].map(|color| {
        let of_row = |y| (0..picture.width()).filter(|&x| picture[(x, y)] == color).count();
        (0..picture.height()).map(of_row).max().expect("rows")
    });
    assert!(long > 150 && long.abs_diff(2 * short) <= 2, "{long} and {short} pixels");
    draw_bar_charts(&[BarChart { title: String::new(), x: "", bars: Vec::new() }]);
}

fn log_chart(mark: Mark, points: &[(f64, f64)]) -> LogChart {
    let series = LogSeries { name: "bra".to_owned(), points: points.to_vec(), mark, color: 0 };
    LogChart { title: "Growth".to_owned(), x: "tokens", y: "ms", series: vec![series] }
}

#[test]
fn charts_with_powers_of_ten_stand_in_rows_of_three() {
    let chart = log_chart(Mark::LineWithDots, &[(64.0, 0.02), (4096.0, 1.5), (262_144.0, 400.0)]);
    let [one, four] = [1, 4].map(|count| draw_log_charts(&vec![chart.clone(); count]));
    assert_eq!(four.dimensions(), (3 * one.width(), 2 * one.height()));
    assert!(pixels(&one, BLUE) > 300, "a curve of {} pixels", pixels(&one, BLUE));
    assert_eq!(pixels(&four, BLUE), 4 * pixels(&one, BLUE));
}

/// What was measured is told from what was not: full dots on a line, rings on dashes.
#[test]
fn marks_differ() {
    let points = [(10.0, 1.0), (1000.0, 100.0)];
    let ink = [Mark::Line, Mark::Dots, Mark::LineWithDots, Mark::DashesWithRings]
        .map(|mark| pixels(&draw_log_charts(&[log_chart(mark, &points)]), BLUE));
    let [line, dots, both, dashes] = ink;
    assert!(dots < line && line < both && dashes < line, "{ink:?}");
}

#[test]
#[should_panic(expected = "no positive numbers")]
fn zero_has_no_logarithm() {
    draw_log_charts(&[log_chart(Mark::Dots, &[(0.0, 1.0)])]);
}
