// Loaded before the page is drawn, so that the other theme does not flash.
(() => {
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem('theme');
    } catch {
      return null; // storage may be forbidden
    }
  };
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const current = () => root.dataset.theme || (dark.matches ? 'dark' : 'light');
  const choice = stored();
  if (choice === 'dark' || choice === 'light') root.dataset.theme = choice;

  document.addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    const label = () => {
      button.textContent = current() === 'dark' ? 'Light' : 'Dark';
      button.setAttribute('aria-label', `Switch to the ${button.textContent.toLowerCase()} theme`);
    };
    const changed = () => {
      label();
      document.dispatchEvent(new Event('themechange'));
    };
    button.addEventListener('click', () => {
      root.dataset.theme = current() === 'dark' ? 'light' : 'dark';
      try {
        localStorage.setItem('theme', root.dataset.theme);
      } catch {
        // not remembered, then
      }
      changed();
    });
    dark.addEventListener('change', changed);
    label();
  });
})();
