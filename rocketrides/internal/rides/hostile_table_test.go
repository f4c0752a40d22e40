package rides

import (
	"strconv"
	"strings"
)

// hostile is what a client sends, and the statuses of the answers that it gets
// until the connection is closed.
type hostile struct{ name, sent, want string }

func postWith(header, body string) string {
	return "POST /rides HTTP/1.1\r\nHost: x\r\n" + header + "\r\n" + body
}

func postAs(contentType, body string) string {
	return postWith("Content-Type: "+contentType+"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n", body)
}

func postChunked(body string) string { return postWith("Transfer-Encoding: chunked\r\n", body) }

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n" }

var (
	validRide  = postAs(formType, "distance=1")
	flood      = strings.Repeat("x", 64<<10)
	halfHeader = "POST /rides?distance=1 HTTP/1.1\r\nHost: x\r\nX: "
)

// hostiles are whole requests.
var hostiles = []hostile{
	{"empty line", "\r\n\r\n", "400"},
	{"garbage", "\x00\x01\x02\x03\r\n\r\n", "400"},
	{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "400"},
	{"HTTP/0.9", "GET /rides/1\r\n\r\n", "400"},
	{"HTTP/2 unasked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
	{"HTTP/3.0", "POST /rides?distance=1 HTTP/3.0\r\nHost: x\r\n\r\n", "505"},
	{"HTTP/1.9x", "POST /rides?distance=1 HTTP/1.9x\r\nHost: x\r\n\r\n", "400"},
	{"lower-case http", "POST /rides?distance=1 http/1.1\r\nHost: x\r\n\r\n", "400"},
	{"three spaces", "POST  /rides?distance=1  HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"space before the method", " POST /rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},

	{"method of another path", "DELETE /rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
	{"unknown method", "BOOK /rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
	{"lower-case method", "post /rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
	{"TRACE", "TRACE /rides HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
	{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "404"},
	{"method with a NUL", "PO\x00ST /rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},

	{"long URL", get("/" + flood), "431"},
	{"long path", get("/rides/" + strings.Repeat("1", 8<<10)), "400"},
	{"long query", "POST /rides?distance=" + strings.Repeat("1", 8<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "422"},
	{"bad percent in the path", get("/rides/%zz"), "400"},
	{"half a percent", get("/rides/%1"), "400"},
	{"NUL in the path", get("/rides/1%00"), "400"},
	{"raw NUL in the path", get("/rides/\x00"), "400"},
	{"slash in the id", get("/rides/1%2F2"), "404"},
	{"dots", get("/rides/../../etc/passwd"), "404"},
	{"encoded dots", get("/rides/%2e%2e/%2e%2e/etc/passwd"), "404"},
	{"overlong UTF-8", get("/rides/%c0%ae"), "400"},
	{"SQL in the id", get("/rides/1;DROP%20TABLE%20rides"), "400"},
	{"absolute URI elsewhere", get("http://example.com/x"), "404"},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
	{"bad percent in the query", "POST /rides?distance=%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"semicolon in the query", "POST /rides?a;distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},

	{"no Host", "POST /rides?distance=1 HTTP/1.1\r\n\r\n", "400"},
	{"two Hosts", postWith("Host: y\r\n", ""), "400"},
	{"bad Host", "POST /rides?distance=1 HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
	{"header flood", postWith(strings.Repeat("X: y\r\n", 16<<10), ""), "431"},
	{"long header", postWith("X: "+flood+"\r\n", ""), "431"},
	{"header without a colon", postWith("X\r\n", ""), "400"},
	{"header name with a space", postWith("Content-Length : 10\r\n", "distance=1"), "400"},
	{"header with a NUL", postWith("X: \x00\r\n", ""), "400"},
	{"folded first header", "POST /rides HTTP/1.1\r\n Host: x\r\n\r\n", "400"},
	{"bare CR in a header", postWith("X: a\rb\r\n", ""), "400"},
	{"unknown expectation", postWith("Expect: a ride\r\nContent-Length: 10\r\n", "distance=1"), "417"},

	{"two lengths", postWith("Content-Length: 10\r\nContent-Length: 11\r\n", "distance=12"), "400"},
	{"two lengths in one", postWith("Content-Length: 10, 10\r\n", "distance=1"), "400"},
	{"negative length", postWith("Content-Length: -1\r\n", "distance=1"), "400"},
	{"signed length", postWith("Content-Length: +10\r\n", "distance=1"), "400"},
	{"hexadecimal length", postWith("Content-Length: 0xa\r\n", "distance=1"), "400"},
	{"no length", postWith("Content-Length: \r\n", "distance=1"), "400"},
	{"length beyond 64 bits", postWith("Content-Length: 99999999999999999999\r\n", "distance=1"), "400"},
	{"length of 64 bits", postWith("Content-Length: 9223372036854775807\r\n", "distance=1"), "413"},
	{"large form", postAs(formType, "distance=1&x="+strings.Repeat("x", maxBodyBytes)), "413"},

	{"large chunk", postChunked("ffff\r\n" + flood), "413"},
	{"chunk beyond 64 bits", postChunked("fffffffffffffffff\r\ndistance=1"), "400"},
	{"chunk of no size", postChunked("\r\ndistance=1\r\n0\r\n\r\n"), "400"},
	{"negative chunk", postChunked("-1\r\ndistance=1\r\n0\r\n\r\n"), "400"},
	{"chunk longer than it says", postChunked("9\r\ndistance=1\r\n0\r\n\r\n"), "400"},
	{"chunk with a long extension", postChunked("a;" + flood + "\r\ndistance=1\r\n0\r\n\r\n"), "400"},
	{"many small chunks with extensions", postChunked(strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\ny\r\n", 300)), "400"},
	// HTTP itself wants 501 for these two, and 505 above.
	{"unknown transfer coding", postWith("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501"},
	{"two transfer codings", postWith("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), "501"},
	{"disguised transfer coding", postWith("Transfer-Encoding: \vchunked\r\nContent-Length: 10\r\n", "distance=1"), "400"},
	{"chunked in HTTP/1.0", "POST /rides HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndistance=1\r\n0\r\n\r\n", "422"},

	{"length and chunks", postWith("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+validRide), "422"},
	{"chunks, and a ride after them", postChunked("0\r\n\r\n" + validRide), "422"},
	{"ride in the trailer", postChunked("0\r\nX: y\r\ndistance: 1\r\n\r\n"), "422"},
	{"length shorter than the body", postWith("Content-Length: 9\r\n", "distance=1\r\n\r\n"), "422 400"},
	{"ride, then garbage", validRide + "\x00\x00\r\n\r\n", "201 400"},
	{"ride, then HTTP/0.9", validRide + "GET /\r\n\r\n", "201 400"},
	{"pipelined refusals", get("/rides/x") + get("/nothing") + "X\r\n\r\n", "400 404 400"},
	{"body of a GET is no request", "GET /rides/x HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(validRide)) + "\r\n\r\n" + validRide, "400"},

	{"unknown content type", postAs("text/xml", "distance=1"), "415"},
	{"malformed content type", postAs("application/json; =", `{"distance":1}`), "415"},
	{"multipart", postAs("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=distance\r\n\r\n1\r\n--x--"), "415"},
	{"two content types", postWith("Content-Type: text/plain\r\nContent-Type: "+jsonType+"\r\nContent-Length: 14\r\n", `{"distance":1}`), "415"},
	{"UTF-16 JSON", postAs(jsonType, "\xff\xfe{\x00}\x00"), "400"},
	{"JSON with a byte order mark", postAs(jsonType, "\xef\xbb\xbf"+`{"distance":1}`), "400"},
	{"another content type after it", postWith("Content-Type: "+jsonType+"\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n", `{"distance":1}`), "415"},
	{"compressed", postWith("Content-Encoding: gzip\r\nContent-Length: 10\r\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00"), "415"},
	{"compressed a second time", postWith("Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n", "distance=1"), "415"},

	{"deep JSON", postAs(jsonType, `{"distance":`+strings.Repeat("[", 4000)), "400"},
	{"deep JSON, closed", postAs(jsonType, `{"distance":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+"}"), "422"},
	{"duplicate in JSON", postAs(jsonType, `{"distance":1,"dist\u0061nce":1}`), "422"},
	{"JSON in JSON", postAs(jsonType, `{"distance":"{\"distance\":1}"}`), "422"},
	{"two JSON values", postAs(jsonType, `{"distance":1}{"distance":1}`), "400"},
	{"number that fills memory", postAs(jsonType, `{"distance":1e999999999}`), "422"},
	{"many small fields", postAs(formType, strings.Repeat("distance=1&", 300)), "422"},
	{"NUL in the value", postAs(formType, "distance=1%00"), "422"},
	{"raw NUL in the value", postAs(formType, "distance=1\x00"), "422"},
	{"no UTF-8", postAs(formType, "distance=\xff\xfe"), "422"},
	{"SQL in the value", postAs(formType, "distance=1'::numeric);DROP TABLE rides;--"), "400"},
	{"bad percent in the form", postAs(formType, "distance=1%"), "400"},
}

// hangUps are followed by the end of what the client sends.
var hangUps = []hostile{
	{"nothing", "", ""},
	{"half a line", "POST /rides?distance=1 HTT", "400"},
	{"half a header", halfHeader, "400"},
	{"half a body", postWith("Content-Length: 100\r\n", "distance=1"), "400"},
	{"half a chunk", postChunked("ff\r\ndistance=1"), "400"},
	{"no last chunk", postChunked("a\r\ndistance=1\r\n"), "400"},
	{"bare line feeds, no end", "POST /rides HTTP/1.1\nHost: x\nContent-Length: 99\n\ndistance=1", "400"},
}

// stalls come to a halt.
var stalls = []hostile{
	{"nothing", "", ""},
	{"half a line", "POST /rides?distance=1 HTT", "400"},
	{"half a header", halfHeader, ""},
	{"half a body", postWith("Content-Length: 4000\r\n", "distance=1"), "408"},
	{"half a chunk", postChunked("fff\r\ndistance=1"), "408"},
	{"body to be continued", postWith("Expect: 100-continue\r\nContent-Length: 4000\r\n", ""), "100 408"},
	{"silence after a refusal", get("/rides/x"), "400"},
}

// drips go on byte by byte.
var drips = []hostile{
	{"line", "POST /rides?distance=1", "400"},
	{"header", halfHeader, ""},
	{"body", postWith("Content-Length: 4000\r\n", "distance=1"), "408"},
	{"chunk", postChunked("fff\r\ndistance=1"), "408"},
	{"line after a refusal", get("/rides/x"), "400 400"},
}

func bearing(authorization string) string {
	return postWith("Authorization: "+authorization+"\r\nContent-Length: 10\r\n", "distance=1")
}

// intruders come to an api that asks for a token.
var intruders = []hostile{
	{"no token", validRide, "401"},
	{"long token", bearing("Bearer " + strings.Repeat("x", 15<<10)), "401"},
	{"token beyond the limit", bearing("Bearer " + flood), "431"},
	{"many tokens", bearing(strings.Repeat("Bearer b,", 1<<10)), "400"},
	{"NUL in the token", bearing("Bearer a\x00"), "400"},
	{"control character in the token", bearing("Bearer a\x7f"), "400"},
	{"bare CR in the token", bearing("Bearer a\rX"), "400"},
	{"tab for the space", bearing("Bearer\ta"), "401"},
	{"tab in the token", bearing("Bearer a\tb"), "400"},
	{"no UTF-8 in the token", bearing("Bearer \xff\xfe"), "400"},
	{"two of the same", bearing("Bearer a\r\nAuthorization: Bearer a"), "400"},
	{"a good one after another", bearing("Basic YTph\r\nauthorization: Bearer a"), "400"},
	{"folded", bearing("Bearer b\r\n a"), "400"},
	{"header name with a space", bearing("x\r\nAuthorization : Bearer a"), "400"},
	{"in the trailer", postWith("Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", "a\r\ndistance=1\r\n0\r\nAuthorization: Bearer a\r\n\r\n"), "401"},
	{"in the query", "POST /rides?distance=1&access_token=a HTTP/1.1\r\nHost: x\r\n\r\n", "401"},
	{"in the userinfo", "POST http://a:a@x/rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "401"},
	{"another path to the same", "POST //rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "401"},
	{"through an open path", "POST /healthz/../rides?distance=1 HTTP/1.1\r\nHost: x\r\n\r\n", "401"},
	{"good one for another request", bearing("Bearer a") + validRide, "201 401"},
}
