package unilog

// StoredJSONSize is what a document counts against the limit.
func StoredJSONSize(doc []byte) (int, error) { return storedJSONSize(doc) }
