//! How the server's seats are divided among levels that lend and borrow, following
//! upstream's `conc_alloc.go`: in proportion to demand, within each level's bounds.

/// Below this a target counts as this, so that nothing is divided by zero.
const LEAST_TARGET: f64 = 0.001;
/// Halvings in the search for the proportion; more than a double can tell apart.
const STEPS: u32 = 200;

/// One level that takes part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Claim {
    /// The seats that it would like.
    pub(super) target: f64,
    /// The least that it gets.
    pub(super) lower: f64,
    /// The most that it gets.
    pub(super) upper: f64,
}

impl Claim {
    fn at(&self, proportion: f64) -> f64 {
        (proportion * self.target.max(LEAST_TARGET)).clamp(self.lower, self.upper)
    }
}

/// Divides `sum` seats: each level gets its target times one common proportion, or
/// the bound that this would cross. Returns the shares and the proportion; `None`
/// where the bounds do not allow the sum.
pub(super) fn allocate(sum: f64, claims: &[Claim]) -> Option<(Vec<f64>, f64)> {
    if claims.iter().any(|claim| claim.lower > claim.upper || claim.lower < 0.0) {
        return None;
    }
    let (least, most): (f64, f64) =
        claims.iter().fold((0.0, 0.0), |(low, high), claim| (low + claim.lower, high + claim.upper));
    if sum < least - 1e-7 || sum > most + 1e-7 {
        return None;
    }
    // What is given grows with the proportion, so that halving finds it.
    let total = |proportion: f64| -> f64 { claims.iter().map(|claim| claim.at(proportion)).sum() };
    let highest = claims.iter().map(|claim| claim.upper / claim.target.max(LEAST_TARGET)).fold(0.0, f64::max);
    let (mut low, mut high) = (0.0, highest);
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if total(middle) < sum { low = middle } else { high = middle }
    }
    Some((claims.iter().map(|claim| claim.at(high)).collect(), high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(target: f64, lower: f64, upper: f64) -> Claim {
        Claim { target, lower, upper }
    }

    #[test]
    fn shares() {
        let table = [
            // Nothing is in the way: in proportion.
            (30.0, vec![claim(10.0, 0.0, 100.0), claim(20.0, 0.0, 100.0)], vec![10.0, 20.0]),
            (60.0, vec![claim(10.0, 0.0, 100.0), claim(20.0, 0.0, 100.0)], vec![20.0, 40.0]),
            // An upper bound holds one back, the other gets the rest.
            (60.0, vec![claim(10.0, 0.0, 15.0), claim(20.0, 0.0, 100.0)], vec![15.0, 45.0]),
            // A lower bound keeps one up.
            (60.0, vec![claim(50.0, 50.0, 100.0), claim(100.0, 5.0, 100.0)], vec![50.0, 10.0]),
            // No demand at all.
            (10.0, vec![claim(0.0, 0.0, 10.0), claim(0.0, 0.0, 10.0)], vec![5.0, 5.0]),
            (3.0, vec![claim(1.0, 1.0, 1.0), claim(2.0, 2.0, 2.0)], vec![1.0, 2.0]),
        ];
        for (sum, claims, expected) in table {
            let (shares, _) = allocate(sum, &claims).expect("possible");
            for (share, expected) in shares.iter().zip(&expected) {
                assert!((share - expected).abs() < 1e-6, "{claims:?}: {shares:?}");
            }
        }
        assert_eq!(allocate(5.0, &[claim(10.0, 6.0, 10.0)]), None);
        assert_eq!(allocate(11.0, &[claim(10.0, 6.0, 10.0)]), None);
    }
}
