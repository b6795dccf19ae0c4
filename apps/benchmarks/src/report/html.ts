/** Pieces of a page. Whatever comes from a result is text: it is escaped here, and nowhere else put into a page. */
import { withIdPrefix } from '../plots/chart.js';
import type { Table } from '../tables/table.js';

export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}

/** Its first column names the row, the others are figures. */
export function htmlTable({ title, head, rows }: Table): string {
  const headCells = head.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join('');
  const hasHead = head.some((cell) => cell !== '');
  const body = rows.map(([name, ...cells]) => {
    const figures = cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('');
    return `<tr><th scope="row">${escapeHtml(name ?? '')}</th>${figures}</tr>`;
  });
  return [
    '<table>',
    `<caption>${escapeHtml(title)}</caption>`,
    ...(hasHead ? [`<thead><tr>${headCells}</tr></thead>`] : []),
    `<tbody>${body.join('')}</tbody>`,
    '</table>',
  ].join('\n');
}

/**
 * Makes an SVG element part of a page: there it needs no namespace, and its title is read to those who do not see it.
 * @param plot.svg one that plots/chart.ts made, whose own texts are escaped.
 * @param plot.number its own on the page.
 */
export function htmlFigure({ svg, title, number }: { svg: string; title: string; number: number }): string {
  const inPage = withIdPrefix(svg, `plot${number}`)
    .replace(/<svg ([^>]*)>/, (_, attributes: string) => {
      const kept = attributes.replace(/\s*xmlns(:\w+)?="[^"]*"/g, '').trim();
      return `<svg role="img" aria-label="${escapeHtml(title)}" ${kept}>`;
    })
    .trim();
  return `<figure>${inPage}</figure>`;
}
