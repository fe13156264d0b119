def check(facts, options): pass
