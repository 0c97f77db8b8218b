"""What there is to learn from, in words: scans and people, grids, covariates, and what is doubtful."""

from collections import Counter
from collections.abc import Iterable

from vol3d.data.covariate_types import Wanted, impossible, level_of
from vol3d.data.tables import SEVERAL
from vol3d.data.visit import Visit
from vol3d.io.header import read_header
from vol3d.volume import Grid

FEW_PEOPLE = 100
"""A generator of fewer repeats those whom it has seen."""
TOLD = 10
"""So many covariates are told in one line."""
RARE = 2
"""A level that so few people have is hardly learnt."""


def overview(scans: list[Visit], grid: str, wanted: Iterable[str] = ()) -> str:
    """One line: how many scans of how many people, how they are split, grid, covariates."""
    names = list(wanted) or names_in(scans)
    told = "; ".join(f"{name} {values(scans, name)}" for name in names[:TOLD])
    told += f"; {len(names) - TOLD} covariates more" * (len(names) > TOLD)
    parts = [(part, [s for s in scans if s.split == part]) for part in ("train", "val")]
    train, val = (counted(some) for _, some in parts)
    return f"{train} to learn from, {val} held out; {grid}; {told or 'no covariates'}"


def counted(scans: list[Visit]) -> str:
    """12 scans of 10 people."""
    people = len({s.subject for s in scans})
    who = "person" if people == 1 else "people"
    return f"{len(scans)} scan{'s' * (len(scans) != 1)} of {people} {who}"


def names_in(scans: list[Visit]) -> list[str]:
    """All covariates that some scan has."""
    return list(dict.fromkeys(name for s in scans for name in s.covariates))


def values(scans: list[Visit], name: str) -> str:
    """The range of a number, or how often there is each level; and how many scans lack it."""
    there = [v for s in scans if (v := s.covariates.get(name)) is not None]
    if not there:
        return "of nobody"
    numbers = [v for v in there if isinstance(v, float)]
    levels = Counter(v for v in there if isinstance(v, str)).most_common()
    told = [f"{min(numbers):g} to {max(numbers):g}"] if numbers else []
    told += [f"{level} ({n})" for level, n in levels[:SEVERAL]]
    told += [f"{len(levels) - SEVERAL} levels more"] * (len(levels) > SEVERAL)
    told += [f"{len(scans) - len(there)} missing"] * (len(scans) > len(there))
    return ", ".join(told)


def grids(scans: list[Visit]) -> Counter[str]:
    """The grids on which scans lie, and how many lie on each."""
    return Counter(str(grid_by_header(scan)) for scan in scans)


def grid_by_header(scan: Visit) -> Grid:
    """Where the voxels of a scan lie; only its header is read."""
    header = read_header(scan.image, scan.form)
    return Grid(header.shape, header.affine)


def few_people(scans: list[Visit]) -> list[str]:
    """Warnings where a generator would have too few to learn from, or to be measured on."""
    people = len({s.subject for s in scans if s.split == "train"})
    found = []
    if people < FEW_PEOPLE:
        found.append(
            f"{people} people to learn from are few: of fewer than {FEW_PEOPLE}, a generator repeats them"
        )
    if all(s.split == "train" for s in scans):
        found.append(
            "nobody is held out, so an autoencoder is not measured, and no diffusion model can be "
            "trained on it; hold people out with a column split, or a larger data.val_fraction"
        )
    return found


def doubts(scans: list[Visit], wanted: dict[str, Wanted]) -> list[str]:
    """What is odd about wanted covariates, or all: what cannot be; levels that may be one, or rare."""
    found = []
    for name in list(wanted) or names_in(scans):
        numbers = [(s, v) for s in scans if isinstance(v := s.covariates.get(name), float)]
        odd = [(s, v, why) for s, v in numbers if (why := impossible(name, v))]
        if odd:
            scan, value, why = odd[0]
            more = f", and {len(odd) - 1} scans more are like that" if odd[1:] else ""
            found.append(
                f"{scan.who}: {name} is {value:g}{more}; {why}: mend the table, or write n/a"
            )
        people: dict[str, set[str]] = {}
        alike: list[str] = []
        for s in scans:
            if s.covariates.get(name) is not None:
                people.setdefault(level_of(s.covariates[name]), set()).add(s.subject)
        if any(isinstance(s.covariates.get(name), str) for s in scans):
            alike = spellings(name, {level: len(who) for level, who in people.items()})
            found += alike
        if name in wanted and wanted[name].kind == "category" and not alike:
            rare = {level: len(who) for level, who in people.items() if len(who) <= RARE}
            if rare:
                told = ", ".join(f"'{level}' of {n}" for level, n in list(rare.items())[:SEVERAL])
                found.append(
                    f"{name}: few people have a level ({told}), so it is hardly learnt; join levels with "
                    f"data.levels, or write n/a"
                )
    return found


def spellings(name: str, levels: dict[str, int]) -> list[str]:
    """A warning where levels may be one: they differ by capitals, or one is short for another."""
    groups: dict[str, list[str]] = {}
    for level in sorted(levels, key=lambda level: (len(level), level)):
        low = level.casefold().strip()
        first = next((g for g in groups if low == g or (len(g) == 1 and is_long(low, g))), low)
        groups.setdefault(first, []).append(level)
    joined = {max(some, key=levels.get): some for some in groups.values() if len(some) > 1}
    if not joined:
        return []
    told = "; ".join(" and ".join(sorted(some)) for some in joined.values())
    rest = ", ".join(
        f"{main}: [{', '.join(sorted(set(some) - {main}))}]" for main, some in joined.items()
    )
    return [f"{name}: {told} may be the same; if so, data.levels={{{name}: {{{rest}}}}}"]


def is_long(level: str, initial: str) -> bool:
    """Whether a level is a word that may be abbreviated so."""
    return len(level) > 2 and level.isalpha() and level.startswith(initial)
