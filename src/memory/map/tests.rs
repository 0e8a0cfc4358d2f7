//! The tree against a model that knows each page by itself.

use super::*;
use proptest::prelude::*;
use std::ops::Range;

const SIZE: u32 = page::SIZE;
/// Pages of the model; it covers the top of the address space, where ends are closest to wrapping.
const PAGES: u32 = 600;
const BOTTOM: u32 = END - PAGES * SIZE;

/// What the model knows of a page: everything but where its area ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    prot: Prot,
    shared: bool,
    grows_down: bool,
    /// File number and page offset.
    file: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
enum Op {
    Map(u32, u32, Page),
    Unmap(u32, u32),
    Protect(u32, u32, Prot),
}

fn range() -> impl Strategy<Value = (u32, u32)> {
    range_of(1..40)
}

fn range_of(len: Range<u32>) -> impl Strategy<Value = (u32, u32)> {
    (0..PAGES, len).prop_map(|(first, len)| (first, (first + len).min(PAGES)))
}

fn prot() -> impl Strategy<Value = Prot> {
    (0u32..8).prop_map(Prot::from_bits)
}

fn op() -> impl Strategy<Value = Op> {
    let page = (prot(), prop::option::of((0u64..2, 0u64..4)), 0u8..6).prop_map(|(prot, file, kind)| Page {
        prot,
        shared: file.is_some() && kind == 0,
        grows_down: file.is_none() && kind == 1,
        file,
    });
    prop_oneof![
        3 => (range(), page).prop_map(|((first, behind), page)| Op::Map(first, behind, page)),
        2 => range().prop_map(|(first, behind)| Op::Unmap(first, behind)),
        2 => (range_of(0..40), prot()).prop_map(|((first, behind), prot)| Op::Protect(first, behind, prot)),
    ]
}

fn address(number: u32) -> u32 {
    BOTTOM + number * SIZE
}

fn area(page: &Page, behind: u32) -> Area {
    let object = match page.file {
        None => Object::Anonymous(None),
        Some((ino, offset)) => Object::File {
            file: Arc::new(FileId { dev: 1, ino, path: None }),
            offset: offset * u64::from(SIZE),
        },
    };
    Area {
        end: address(behind),
        prot: page.prot,
        shared: page.shared,
        grows_down: page.grows_down,
        may_exec: true,
        marks: Marks::default(),
        object,
    }
}

/// The page at `by` pages behind the start of a mapping that starts with `page`.
fn advanced(page: &Page, by: u32) -> Page {
    Page { file: page.file.map(|(ino, offset)| (ino, offset + u64::from(by))), ..page.clone() }
}

fn page_of(tree: &Tree, addr: u32) -> Option<Page> {
    let (start, area) = tree.at(addr)?;
    let file = match &area.object {
        Object::Anonymous(_) => None,
        Object::File { file, offset } => {
            Some((file.ino, (offset + u64::from(addr - start)) / u64::from(SIZE)))
        }
    };
    Some(Page { prot: area.prot, shared: area.shared, grows_down: area.grows_down, file })
}

fn apply(tree: &mut Tree, model: &mut [Option<Page>], op: &Op) {
    match op {
        Op::Map(first, behind, page) => {
            tree.remove(address(*first), address(*behind));
            tree.insert(address(*first), area(page, *behind));
            for number in *first..*behind {
                model[number as usize] = Some(advanced(page, number - first));
            }
        }
        Op::Unmap(first, behind) => {
            let removed = tree.remove(address(*first), address(*behind));
            let bytes: u64 = removed.iter().map(|(start, area)| u64::from(area.end - start)).sum();
            let mapped = (*first..*behind).filter(|&number| model[number as usize].is_some()).count();
            assert_eq!(bytes, mapped as u64 * u64::from(SIZE));
            model[*first as usize..*behind as usize].fill(None);
        }
        Op::Protect(first, behind, prot) => {
            tree.protect(address(*first), address(*behind), *prot);
            for page in model[*first as usize..*behind as usize].iter_mut().flatten() {
                page.prot = *prot;
            }
        }
    }
}

/// Which pages are neither mapped nor in the guard gap of a stack, with nothing in between; from the definition.
fn open_pages(model: &[Option<Page>]) -> Vec<bool> {
    let gap = (STACK_GUARD_GAP / SIZE) as usize;
    let is_open = |number: usize| {
        if model[number].is_some() {
            return false;
        }
        let next = (number..model.len()).find_map(|above| model[above].as_ref().map(|page| (above, page)));
        next.is_none_or(|(above, page)| !page.grows_down || above - number > gap)
    };
    (0..model.len()).map(is_open).collect()
}

proptest! {
    #[test]
    fn tree_agrees_with_a_model_of_single_pages(
        ops in prop::collection::vec(op(), 1..24),
        probes in prop::collection::vec(range(), 8),
    ) {
        let mut tree = Tree::default();
        let mut model = vec![None; PAGES as usize];
        for op in &ops {
            apply(&mut tree, &mut model, op);
        }
        for number in 0..PAGES {
            prop_assert_eq!(&page_of(&tree, address(number)), &model[number as usize]);
            prop_assert_eq!(&page_of(&tree, address(number) + SIZE - 1), &model[number as usize]);
        }
        let mapped = model.iter().flatten().count() as u64;
        prop_assert_eq!(tree.mapped_bytes(), mapped * u64::from(SIZE));
        prop_assert_eq!(tree.len(), tree.iter().count());

        let areas: Vec<(u32, &Area)> = tree.iter().collect();
        for pair in areas.windows(2) {
            prop_assert!(pair[0].1.end <= pair[1].0);
            let apart = pair[0].1.end < pair[1].0 || !pair[0].1.continues_into(pair[0].0, pair[1].1);
            prop_assert!(apart, "{:x?} and {:x?} are one mapping", pair[0], pair[1]);
        }

        for (first, behind) in probes {
            let (start, end) = (address(first), address(behind));
            let pages = &model[first as usize..behind as usize];
            let within = pages.iter().flatten().count() as u64;
            prop_assert_eq!(tree.bytes_within(start, end), within * u64::from(SIZE));
            let prefix = pages.iter().take_while(|page| page.is_some()).count() as u32;
            prop_assert_eq!(tree.mapped_prefix(start, end), start + prefix * SIZE);
            let cut = first > 0 && model[first as usize].is_some()
                && tree.at(start).is_some_and(|(from, _)| from < start);
            prop_assert_eq!(tree.splits(start), cut);
        }
    }

    #[test]
    fn placement_takes_the_highest_room_outside_of_guard_gaps(
        ops in prop::collection::vec(op(), 1..24),
        probes in prop::collection::vec((range(), 1u32..50), 8),
    ) {
        let mut tree = Tree::default();
        let mut model = vec![None; PAGES as usize];
        for op in &ops {
            apply(&mut tree, &mut model, op);
        }
        let open = open_pages(&model);
        for ((first, behind), len) in probes {
            let (low, high) = (address(first), address(behind));
            let fits = |at: &u32| at + len <= behind && (*at..at + len).all(|number| open[number as usize]);
            let expected = (first..behind).rev().find(fits).map(address);
            prop_assert_eq!(tree.highest_gap(len * SIZE, low, high), expected);

            let in_space = first + len <= PAGES;
            let free = in_space && (first..first + len).all(|number| open[number as usize]);
            prop_assert_eq!(tree.is_free(low, len * SIZE), free);
        }
    }
}

#[test]
fn room_ends_where_the_address_space_ends() {
    let tree = Tree::default();
    assert!(tree.is_free(END - SIZE, SIZE));
    assert!(!tree.is_free(END - SIZE, 2 * SIZE));
    assert!(!tree.is_free(END, SIZE));
    assert!(!tree.is_free(u32::MAX - SIZE + 1, u32::MAX - SIZE + 1));
    assert_eq!(tree.highest_gap(END - LOWEST, LOWEST, END), Some(LOWEST));
    assert_eq!(tree.highest_gap(END - LOWEST + SIZE, LOWEST, END), None);
}
