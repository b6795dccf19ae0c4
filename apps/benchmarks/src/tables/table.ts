/** A table of texts, for a terminal and for a page alike: what a result looks like is said once. */
export interface Table {
  /** What its figures are of. */
  readonly title: string;
  readonly head: readonly string[];
  /** As many cells each as `head` has. The first column names the row, the others are figures. */
  readonly rows: readonly (readonly string[])[];
}

/** Title and cell. */
export type Column<Row> = readonly [title: string, cell: (row: Row) => string];

export function makeTable<Row>(title: string, columns: readonly Column<Row>[], rows: readonly Row[]): Table {
  return {
    title,
    head: columns.map(([name]) => name),
    rows: rows.map((row) => columns.map(([, cell]) => cell(row))),
  };
}

/** Returns the table for a terminal: names to the left, figures to the right. */
export function textTable({ head, rows }: Table): string {
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!);
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}
