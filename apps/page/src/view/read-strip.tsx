import { stripCells } from '../read-map/strip-cells.js';

/** Each is to be wide enough to be seen and hit on a phone. */
const MAX_CELLS = 160;

/** The whole document from left to right, warmer where more was read. The quotes below lead to the same places with the keyboard. */
export function ReadStrip({ heats, onPassage }: { heats: Float64Array; onPassage: (passage: number) => void }) {
  const cells = stripCells(heats, MAX_CELLS);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the quotes are buttons that lead to the same places.
    <svg
      class="strip"
      viewBox={`0 0 ${cells.length} 1`}
      preserveAspectRatio="none"
      role="img"
      aria-label="The document from its beginning to its end, warmer where more was read"
      onClick={(event) => {
        const { left, width } = event.currentTarget.getBoundingClientRect();
        const cell = cells[Math.floor(((event.clientX - left) / width) * cells.length)];
        if (cell !== undefined) onPassage(cell.passage);
      }}
    >
      {cells.map(
        ({ from, heat }, x) => heat > 0 && <rect key={from} x={x} y={0} width={1.05} height={1} fill-opacity={heat} />,
      )}
    </svg>
  );
}
