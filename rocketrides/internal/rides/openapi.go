package rides

import (
	_ "embed"
	"io"
	"maps"
	"net/http"
)

//go:embed openapi.yaml
var openAPIDocument string

var openAPIHeader = headerFor("application/yaml")

func showOpenAPI(w http.ResponseWriter, _ *http.Request) {
	maps.Copy(w.Header(), openAPIHeader)
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, openAPIDocument)
}
