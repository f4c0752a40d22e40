// The stream of events, and what state the connection is in.

// SILENCE is how long no sample means that the dashboard cannot be reached: a
// frozen process keeps its connections.
const SILENCE = 4000;
const LONGEST_PAUSE = 10_000;

/**
 * connect calls handlers.hello, sample, audit, note and system with the data of
 * each event, and handlers.connection with "connecting", "open" or "lost". A
 * hidden page is not connected; the hello tells what it has missed.
 */
export function connect(handlers) {
  let source = null;
  let pause = 1000;
  let retry = 0;
  let silence = 0;
  let state = '';

  const setState = (next) => {
    if (state === next) return;
    state = next;
    handlers.connection(next);
  };
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => setState('lost'), SILENCE);
  };
  const close = () => {
    clearTimeout(retry);
    clearTimeout(silence);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    source = new EventSource('events');
    listen();
    for (const name of ['hello', 'sample', 'audit', 'note', 'system']) {
      source.addEventListener(name, (event) => {
        pause = 1000;
        handlers[name](JSON.parse(event.data));
        listen();
        setState('open');
      });
    }
    // The browser tries again by itself, unless the answer was an HTTP error.
    source.addEventListener('error', () => {
      setState('lost');
      if (source.readyState !== EventSource.CLOSED) return;
      retry = setTimeout(open, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    });
  };

  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  setState('connecting');
  if (!document.hidden) open();
}
