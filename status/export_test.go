package status

// AsReported makes a consumer one that reports.
func (c *Consumer) AsReported() { c.elsewhere() }

// The statements that run in loops, for a look at their plans.
const (
	SQLPartitions = sqlPartitionStates
	SQLConsumers  = sqlConsumers
	SQLElsewhere  = sqlElsewhere
)
