//! The most a request can cost, known before its prompt is.

use chrysalis_wire::manifest::{LimitsSection, PricesSection};

use crate::fields::TOKENS_PER_PRICE;

/// Nanogram that a request with at most `completion` tokens can cost under measured prices and
/// limits, rounded up. It says nothing of the prompt: whoever forwards a request may know it.
#[must_use]
pub fn worst_case(prices: &PricesSection, limits: &LimitsSection, completion: u32) -> u128 {
    bound(prices, limits.context_tokens, completion)
}

/// The same once the prompt is known to have `prompt` tokens.
#[must_use]
pub fn bound(prices: &PricesSection, prompt: u32, completion: u32) -> u128 {
    let product = |tokens: u32, a: u64, b: u64| u128::from(tokens).saturating_mul(a.max(b).into());
    product(prompt, prices.prompt, prices.cached)
        .saturating_add(product(completion, prices.completion, prices.reasoning))
        .div_ceil(TOKENS_PER_PRICE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fields::{Finish, Usage};
    use chrysalis_wire::UnixMillis;

    proptest! {
        #[test]
        fn no_usage_within_the_limits_costs_more(
            prices in proptest::array::uniform4(any::<u64>()),
            (prompt, cached) in (0u32..5_000).prop_flat_map(|p| (Just(p), 0..=p)),
            (completion, reasoning) in (0u32..5_000).prop_flat_map(|c| (Just(c), 0..=c)),
        ) {
            let [p, cp, c, r] = prices;
            let prices = PricesSection { prompt: p, cached: cp, completion: c, reasoning: r };
            let usage = Usage {
                prompt,
                cached,
                completion,
                reasoning,
                finish: Finish::Stop,
                prices,
                started: UnixMillis(0),
                ended: UnixMillis(0),
            };
            let limits = LimitsSection {
                request_bytes: 65_536,
                context_tokens: 5_000,
                completion_tokens: 5_000,
                concurrent_requests: 1,
            };
            let amount = usage.amount().unwrap();
            prop_assert!(amount <= bound(&prices, prompt, completion));
            prop_assert!(amount <= worst_case(&prices, &limits, completion));
        }
    }
}
