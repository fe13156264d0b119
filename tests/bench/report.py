"""Tables of minimum, median and maximum, with ratios taken within each round."""

import statistics


class Table:
    """Measured values by name, in one unit."""

    def __init__(self, unit):
        self.unit = unit
        self.rows = {}
        self.targets = {}

    def add(self, name, *values):
        self.rows.setdefault(name, []).extend(values)

    def ratio(self, name, base, target):
        """A row of `name` divided by `base`, round by round: noise that affects both in a round cancels out."""
        pairs = zip(self.rows[name], self.rows[base], strict=True)
        self._derive(f"{name} / {base}", [one / other for one, other in pairs if other], target)

    def difference(self, name, base, target):
        """A row of `name` minus the median of `base`."""
        middle = statistics.median(self.rows[base])
        self._derive(f"{name} - {base}", [value - middle for value in self.rows[name]], target)

    def _derive(self, name, values, target):
        if values:  # there is no ratio to a base of less than a tick
            self.rows[name] = values
            self.targets[name] = target

    def values(self):
        """All values and their summary, for the file."""
        return {
            name: {"unit": self.unit, **summary(values), "values": values, **self._target(name)}
            for name, values in self.rows.items()
        }

    def _target(self, name):
        return {"unit": "", "target": self.targets[name]} if name in self.targets else {}

    def print(self, title):
        print(f"\n{title}, {self.unit}\n  {'':<52}{'min':>10}{'median':>10}{'max':>10}")
        for name, values in self.rows.items():
            row = "".join(f"{value:>10.{_places(value)}f}" for value in summary(values).values())
            target = f"   {self.targets[name]}" if name in self.targets else ""
            print(f"  {name:<52}{row}{target}", flush=True)


def summary(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def percentile(values, share):
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _places(value):
    return 0 if abs(value) >= 100 else 2
