/** Which rows of a study belong on one line of a plot. */
import type { StudyRow } from './study-result.js';

export interface ContenderFamily {
  readonly name: string;
  readonly rows: readonly StudyRow[];
}

/** Rows whose labels differ in the value of their last setting only are a family: `ctkvr:maxSelected=256` and `ctkvr:maxSelected=512`. */
export function contenderFamilies(rows: readonly StudyRow[]): ContenderFamily[] {
  const families = new Map<string, StudyRow[]>();
  for (const row of rows) {
    const key = row.selector.replace(/=[^:=]*$/, '');
    families.set(key, [...(families.get(key) ?? []), row]);
  }
  return [...families].map(([key, members]) => ({ name: familyName(key, members), rows: members }));
}

/** One alone is called by its label. What varies goes without saying when it is the number of values or of kept positions. */
function familyName(key: string, members: readonly StudyRow[]): string {
  if (members.length === 1) return members[0]!.selector;
  return key.replace(/:(maxSelected|recentWindow)$/, '');
}
