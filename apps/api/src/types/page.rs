//! Lists in pages.

use super::{Bounded, Cursor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most items of a page.
pub const MAX_PAGE: u64 = 500;
/// Items of a page if the request does not say.
pub const DEFAULT_PAGE: u64 = 100;

/// How many items a page may have.
pub type PageLimit = Bounded<1, MAX_PAGE>;

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Most items, [`DEFAULT_PAGE`] if not said.
    pub limit: Option<PageLimit>,
    /// Behind which item it begins.
    pub after: Option<Cursor>,
}

impl PageQuery {
    /// Most items of this page.
    #[must_use]
    pub fn size(&self) -> usize {
        let size = self.limit.map_or(DEFAULT_PAGE, Bounded::get);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// Cuts this page out of a whole list. `key` says an item's cursor; the list is in ascending order of
    /// these texts.
    #[must_use]
    pub fn cut<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> Page<T> {
        let behind = |item: &T| {
            self.after
                .as_ref()
                .is_none_or(|after| key(item).as_str() > after.as_str())
        };
        let mut rest = items.into_iter().filter(behind);
        let items: Vec<T> = rest.by_ref().take(self.size()).collect();
        let next = rest.next().and(items.last()).map(key);
        Page { items, next }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// `after` of the next page; `null`: this is the last one.
    #[schema(required = true)]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_together_are_the_list(mut list: Vec<u16>, limit in 1..9_u64) {
            list.sort_unstable();
            list.dedup();
            let key = |item: &u16| format!("{item:05}");
            let mut query = PageQuery { limit: PageLimit::new(limit).ok(), after: None };
            let mut seen = Vec::new();
            loop {
                let page = query.cut(list.iter().copied(), key);
                prop_assert!(page.items.len() <= query.size());
                seen.extend(page.items);
                match page.next {
                    Some(next) => query.after = Some(next.parse().unwrap()),
                    None => break,
                }
            }
            prop_assert_eq!(seen, list);
        }
    }
}
