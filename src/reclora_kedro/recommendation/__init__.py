"""From a trained lens and adapter to ranked items for each user: candidates, shortlist, ranking."""
