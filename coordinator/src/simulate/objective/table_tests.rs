use std::io::Cursor;

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use regatta_columns::FileError;
use regatta_search::simulator::Epoch;
use serde_json::Value;

use super::super::curve::CurveError;
use super::*;

/// As `tests/data/curves.py` has it.
const ROWS: &str = "\
resource, rate, kind, depth, warm, loss, elapsed_s
1, 0.001, a, 0, true, 0.9, 1.0
2, 0.001, a, 0, true, 0.8, 2.5
1, 0.1, a, 0, true, 0.7, 1.0
2, 0.1, a, 0, true, 0.6, 2.0
2, 0.01, b, 3, false, 0.4, 8.0
1, 0.01, b, 3, false, 0.5, 4.0
3, 0.01, b, 3, false, 0.3, 9.0
";
const PARQUET: &[u8] = include_bytes!("../../../tests/data/curves.parquet");

/// The arrays of an npz, each with the numbers of a row.
type Arrays = Vec<(&'static str, usize, Vec<f64>)>;

fn arrays() -> Arrays {
    vec![
        ("rate", 1, vec![1e-3, 1e-1, 1e-2]),
        ("kind", 1, vec![0.0, 0.0, 1.0]),
        ("depth", 1, vec![f64::NAN, f64::NAN, 3.0]),
        ("warm", 1, vec![1.0, 1.0, 0.0]),
        ("loss", 3, vec![0.9, 0.8, f64::NAN, 0.7, 0.6, f64::NAN, 0.5, 0.4, 0.3]),
        ("elapsed_s", 3, vec![1.0, 2.5, f64::NAN, 1.0, 2.0, f64::NAN, 4.0, 8.0, 9.0]),
    ]
}

fn npz(arrays: &Arrays) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut archive = NpzWriter::new(&mut bytes);
    for (name, width, numbers) in arrays {
        let rows = (numbers.len() / width) as u64;
        let shape = if *width == 1 { vec![rows] } else { vec![rows, *width as u64] };
        let array = archive.array::<f64>(name, Default::default()).unwrap();
        let mut array = array.default_dtype().shape(&shape).begin_nd().unwrap();
        array.extend(numbers.iter().copied()).unwrap();
        array.finish().unwrap();
    }
    drop(archive);
    bytes.into_inner()
}

fn study() -> StudyFile {
    let file = json!({
        "name": "played",
        "objective": {"metric": "loss", "goal": "minimize"},
        "space": {
            "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": true},
            "kind": {"type": "categorical", "choices": ["a", "b"]},
            "depth": {"type": "int", "low": 1, "high": 4, "when": {"kind": "b"}},
            "warm": {"type": "bool"},
        },
        "budget": {"trials": 10, "resource": 2},
    });
    check::simulated_study_file(&file).unwrap()
}

fn read(name: &str, bytes: &[u8]) -> Result<Table, TableError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Table::read(&path, &study())
}

/// The epochs of the nearest configuration: loss and seconds.
fn nearest(table: &Table, params: Value) -> Result<Vec<(f64, f64)>, TableError> {
    let curve = table.nearest(&serde_json::from_value(params).unwrap())?;
    let epochs = (1..=2).map(|number| curve.epoch(number));
    Ok(epochs.map(|Epoch { metrics, seconds }| (metrics["loss"], seconds)).collect())
}

#[test]
fn a_configuration_has_the_curve_of_the_nearest_with_its_choices_whatever_the_format() {
    for (name, bytes) in [("t.csv", ROWS.as_bytes()), ("t.parquet", PARQUET), ("t.npz", &npz(&arrays()))] {
        let table = read(name, bytes).unwrap();
        for (params, expected) in [
            (json!({"rate": 0.001, "kind": "a", "warm": true}), [(0.9, 1.0), (0.8, 1.5)]),
            // Nearer to 0.1 than to 0.001 on the scale that is searched.
            (json!({"rate": 0.02, "kind": "a", "warm": true}), [(0.7, 1.0), (0.6, 1.0)]),
            (json!({"rate": 1.0, "kind": "b", "depth": 1, "warm": false}), [(0.5, 4.0), (0.4, 4.0)]),
        ] {
            let found = nearest(&table, params.clone()).unwrap();
            assert_eq!(found, expected, "{name} {params}");
        }
        for params in
            [json!({"rate": 0.01, "kind": "a", "warm": false}), json!({"rate": 0.01, "kind": "b", "warm": true})]
        {
            assert!(matches!(nearest(&table, params), Err(TableError::NoneAlike { .. })), "{name}");
        }
    }
}

#[test]
fn tables_that_are_none_are_refused_by_their_row() {
    let changed = |from: &str, to: &str| read("t.csv", ROWS.replace(from, to).as_bytes()).unwrap_err();
    assert!(matches!(changed("rate,", "pace,"), TableError::NoColumn { name, .. } if name == "rate"));
    assert!(matches!(changed("loss,", "gain,"), TableError::NoColumn { name, .. } if name == "loss"));
    assert!(matches!(changed("resource,", "epoch,"), TableError::NoEpochs));
    assert!(matches!(changed("2, 0.1, a", "2, 3.5, a"), TableError::Outside { row: 4, .. }));
    assert!(matches!(changed("1, 0.1, a", "1, 0.1, c"), TableError::Outside { row: 3, .. }));
    assert!(matches!(changed("1, 0.01, b, 3", "1, 0.01, b, 2.5"), TableError::Outside { row: 6, .. }));
    assert!(matches!(changed("3, false, 0.5", "3, perhaps, 0.5"), TableError::Outside { row: 6, .. }));
    assert!(matches!(changed("2, 0.001", "1, 0.001"), TableError::Twice { first: 1, second: 2 }));
    assert!(matches!(changed("2, 0.01, b", "4, 0.01, b"), TableError::EpochMissing { row: 6, epoch: 2, resource: 2 }));
    assert!(matches!(changed("3, 0.01", "0, 0.01"), TableError::Epoch { row: 7, .. }));
    assert!(matches!(changed("3, 0.01", "1.5, 0.01"), TableError::Epoch { row: 7, .. }));
    assert!(matches!(changed("0.8, 2.5", "NaN, 2.5"), TableError::File(FileError::NotFinite { .. })));
    let backwards = changed("0.8, 2.5", "0.8, 0.5");
    assert!(matches!(backwards, TableError::Curve { row: 1, error: CurveError::NotRising }));
    let header = ROWS.lines().next().unwrap();
    assert!(matches!(read("t.csv", header.as_bytes()), Err(TableError::NoRows)));
    assert!(matches!(read("t.parquet", ROWS.as_bytes()), Err(TableError::File(FileError::NotParquet { .. }))));
}

#[test]
fn arrays_that_are_no_table_are_refused_by_their_row() {
    let changed = |change: &dyn Fn(&mut Arrays)| {
        let mut arrays = arrays();
        change(&mut arrays);
        read("t.npz", &npz(&arrays)).unwrap_err()
    };
    assert!(matches!(changed(&|all| drop(all.remove(0))), TableError::NoColumn { name, .. } if name == "rate"));
    assert!(
        matches!(changed(&|all| all[0].2[1] = f64::NAN), TableError::NotFinite { row: 2, name, .. } if name == "rate")
    );
    assert!(
        matches!(changed(&|all| all[4].2[4] = f64::NAN), TableError::NotFinite { row: 2, name, .. } if name == "loss")
    );
    assert!(matches!(changed(&|all| all[1].2[1] = 2.0), TableError::Outside { row: 2, .. }));
    assert!(matches!(changed(&|all| all[0].2[1] = 1e-3), TableError::Twice { first: 1, second: 2 }));
    assert!(matches!(changed(&|all| all[0].2.truncate(2)), TableError::RowsDiffer { .. }));
    assert!(matches!(changed(&|all| all[4] = ("loss", 1, vec![0.9, 0.7, 0.5])), TableError::TooFew { .. }));
    assert!(matches!(changed(&|all| all[5] = ("elapsed_s", 1, vec![1.0; 3])), TableError::NoEpochs));
}
