// The few SVG elements that the pictures need. Ink is currentColor, which follows the reader's light or dark theme; the ground is open.

export const WIDTH = 760;
export const colours = {
  sinks: '#3b82f6',
  window: '#14a38b',
  lists: '#d97706',
  clusters: '#a855f7',
  selected: '#e11d48',
};

/** A picture of WIDTH by `height` pixels. @param {{ title: string, height: number }} frame @param {string[]} elements */
export function picture({ title, height }, elements) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<title>${escaped(title)}</title>
<style>svg{color:#1f2328;font:13px system-ui,sans-serif}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}text{fill:currentColor}.quiet{opacity:.65}.line{stroke:currentColor;opacity:.25;fill:none}</style>
${elements.filter(Boolean).join('\n')}
</svg>
`;
}

/** @param {number} x @param {number} y @param {string} words @param {{ anchor?: string, quiet?: boolean, colour?: string }} [look] */
export function label(x, y, words, { anchor = 'start', quiet = false, colour } = {}) {
  const fill = colour === undefined ? '' : ` style="fill:${colour};font-weight:600"`;
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${quiet ? ' class="quiet"' : ''}${fill}>${escaped(words)}</text>`;
}

/** @param {{ x: number, y: number, width: number, height: number }} box @param {string} colour @param {number} [opacity] */
export function bar({ x, y, width, height }, colour, opacity = 1) {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" fill="${colour}" opacity="${opacity}"/>`;
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
export function line(x1, y1, x2, y2) {
  return `<path class="line" d="M${round(x1)} ${round(y1)}L${round(x2)} ${round(y2)}"/>`;
}

/** Vertical marks of one colour, one pixel wide. @param {number[]} xs @param {{ y: number, height: number, colour: string }} look */
export function marks(xs, { y, height, colour }) {
  const places = [...new Set(xs.map(round))].map((x) => `M${x} ${y}v${height}`);
  return `<path d="${places.join('')}" stroke="${colour}" stroke-width=".9"/>`;
}

/** Round dots of one colour. @param {[number, number][]} points @param {{ size: number, colour: string, opacity?: number }} look */
export function dots(points, { size, colour, opacity = 1 }) {
  const places = [...new Set(points.map(([x, y]) => `M${round(x)} ${round(y)}h0`))];
  return `<path d="${places.join('')}" stroke="${colour}" stroke-width="${size}" stroke-linecap="round" opacity="${opacity}"/>`;
}

export const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

const round = (/** @type {number} */ x) => Math.round(x * 2) / 2;
const escaped = (/** @type {string} */ words) => words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
