// Package audit proves that no record was lost and none was applied twice: it states
// an equation between the source's tables, the consumers' totals and what is on its
// way from the one to the others, which holds at every instant. [Equation.Check]
// evaluates it, [Equation.Reconcile] repairs a total by it, and
// [Equation.Bootstrap] starts a new consumer without reading the history.
package audit
