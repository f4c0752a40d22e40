package status

// The statements that run in loops, for a look at their plans.
const (
	SQLPartitions = sqlPartitionStates
	SQLConsumers  = sqlConsumers
	SQLElsewhere  = sqlElsewhere
)
