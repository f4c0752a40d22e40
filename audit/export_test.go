package audit

// SQL is the statement of an equation, for a look at its plan.
func SQL(a Equation) string { return a.sql() }
