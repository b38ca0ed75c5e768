"""Lists under rules of a shop by lists and loops alone, in the order of docs/guides/recommend.md.

Rules are mappings, as users write them; items are rows of a table by id, as text.
"""


def values_of(row, field):
    return [each.strip() for each in (row[field] or "").split(",") if each.strip()]


def suits(row, conditions):
    """Whether an item meets all conditions: one of the values of a text field, or bounds of a number."""
    for field, wanted in conditions.items():
        if isinstance(wanted, dict):
            number = row[field]
            if number is None or number < wanted.get("min", number) or number > wanted.get("max", number):
                return False
        elif not any(each in wanted for each in values_of(row, field)):
            return False
    return True


def may_be_listed(row, rules):
    """Whether rules of exclude and allow leave an item."""
    excluded = any(suits(row, rule["exclude"]) for rule in rules if "exclude" in rule)
    return not excluded and all(suits(row, rule["allow"]) for rule in rules if "allow" in rule)


def too_many(item, others, rules, rows):
    """Whether others of a list are as many as a rule of at_most lets share a value with an item."""
    for rule in rules:
        if "at_most" in rule:
            field = rule["at_most"]
            for value in values_of(rows[item], field):
                if sum(value in values_of(rows[other], field) for other in others) >= rule.get("items", 1):
                    return True
    return False


def arranged(ranking, rules, rows, n):
    """Return the first n items after boost, bury, at_most and pin, and by item the rule that has moved it."""
    moved, places = {}, {}
    for place, item in enumerate(ranking):
        shift = 0
        for number, rule in enumerate(rules):
            for kind, sign in (("boost", -1), ("bury", 1)):
                if kind in rule and suits(rows[item], rule[kind]):
                    # Half a place more passes the item that stands there.
                    shift += sign * (rule.get("places", 10) + 0.5)
                    moved.setdefault(item, number)
        places[item] = place + shift
    pins = [
        (rule.get("place", 1), -number, str(rule["pin"]))
        for number, rule in enumerate(rules)
        if "pin" in rule and str(rule["pin"]) in ranking
    ]
    pinned, kept = [item for _, _, item in pins], []
    enough = n + max([place for place, _, _ in pins], default=0)  # so that each pin has its place
    for item in sorted(ranking, key=places.__getitem__):
        if item not in pinned and not too_many(item, pinned + kept, rules, rows):
            kept.append(item)
        if len(kept) == enough:
            break
    for place, number, item in sorted(pins):  # of one place, the first rule's comes last, and stands there
        kept.insert(place - 1, item)
        moved[item] = -number
    return kept[:n], moved


def expected_list(ranking, of_quotas, rules, rows, n):
    """Return the n items of a list and the number of the rule that has moved each, or None.

    Args:
        ranking: ids of all items that rules of exclude and allow leave, in the method's order.
        of_quotas: by number of a rule, the method's order of the items that count for its quota.
        rules, rows: rules, and the row of each item by its id.
    """
    shown, moved = arranged(ranking, rules, rows, n)
    safe = {str(rule["pin"]) for rule in rules if "pin" in rule}
    for number, rule in enumerate(rules):
        if "quota" not in rule:
            continue
        least = rule.get("items", 1)
        counting = [item for item in shown if suits(rows[item], rule["quota"])][:least]
        safe.update(counting)
        for item in of_quotas[number]:
            if len(counting) == least:
                break
            if item in shown:
                continue
            others = list(shown)
            if len(shown) == n:
                replaceable = [other for other in shown if other not in safe]
                if not replaceable:
                    break
                others.remove(replaceable[-1])
            if not too_many(item, others, rules, rows):
                shown = [*others, item]
                counting.append(item)
                safe.add(item)
                moved[item] = number
    return [(item, moved.get(item)) for item in shown]
