// What the page calls what the application does; the server has put it there.

export const words = JSON.parse(document.body.dataset.words);

/** amount is a decimal with its unit, if it has one. */
export const amount = (text) => (words.unit ? `${text} ${words.unit}` : text);

/** capital begins a sentence. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
