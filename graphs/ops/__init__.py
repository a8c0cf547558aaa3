"""Everything that mnx knows of an op stands in one rule; `table.RULES` lists them. A new op is one entry."""
