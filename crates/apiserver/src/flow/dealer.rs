//! Shuffle sharding: each flow gets a hand of queues, and two flows seldom the same
//! one, so that a greedy flow spoils a few queues of a few others only.

/// The largest hand; a larger one needs more bits than the hash has.
const MAX_HAND: usize = 16;

/// Deals hands from a deck of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dealer {
    deck: usize,
    hand: usize,
}

impl Dealer {
    pub(super) fn new(deck: usize, hand: usize) -> Self {
        let deck = deck.max(1);
        Self { deck, hand: hand.clamp(1, deck.min(MAX_HAND)) }
    }

    /// The hand that a hash stands for: different queues, the same ones each time.
    pub(super) fn deal(&self, hash: u64) -> Hand {
        let mut rest = hash;
        let mut picks = [0_usize; MAX_HAND];
        let mut cards = [0_usize; MAX_HAND];
        for index in 0..self.hand {
            let left = self.deck - index;
            // Below the deck's size, which is a usize.
            picks[index] = usize::try_from(rest % left as u64).unwrap_or(0);
            rest /= left as u64;
            // A pick counts the cards that are left; the dealt ones before it are skipped.
            let mut card = picks[index];
            for earlier in picks[..index].iter().rev() {
                if card >= *earlier {
                    card += 1;
                }
            }
            cards[index] = card;
        }
        Hand { cards, size: self.hand }
    }
}

/// Queues that a flow may use.
pub(super) struct Hand {
    cards: [usize; MAX_HAND],
    size: usize,
}

impl Hand {
    /// The queues, beginning with the one at `offset`.
    pub(super) fn from(&self, offset: usize) -> impl Iterator<Item = usize> {
        (0..self.size).map(move |index| self.cards[(offset + index) % self.size])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hand_has_different_queues_and_all_are_dealt() {
        let dealer = Dealer::new(16, 4);
        let mut seen = BTreeSet::new();
        let mut firsts = [0_u32; 16];
        for hash in 0..16 * 15 * 14 * 13 {
            let hand: Vec<usize> = dealer.deal(hash).from(0).collect();
            let set: BTreeSet<usize> = hand.iter().copied().collect();
            assert_eq!(set.len(), 4, "{hand:?}");
            firsts[hand[0]] += 1;
            seen.insert(hand);
        }
        assert_eq!(seen.len(), 16 * 15 * 14 * 13, "each hash below the number of hands is a hand of its own");
        assert!(firsts.iter().all(|count| *count == firsts[0]), "{firsts:?}");
    }

    #[test]
    fn odd_sizes() {
        for (deck, hand) in [(1, 1), (0, 0), (3, 9), (100, 40)] {
            let dealer = Dealer::new(deck, hand);
            assert!(dealer.deal(u64::MAX).from(1).all(|queue| queue < deck.max(1)));
        }
    }
}
