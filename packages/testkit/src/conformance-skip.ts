/** Skips of a conformance suite: each says which tests and why, and shows up as skipped with its reason in the report. */
import { it } from 'vitest';

export interface ConformanceSkip {
  /** Names of tests of the suite, exactly. */
  readonly tests: readonly string[];
  readonly reason: string;
}

export interface ConformanceOptions {
  readonly skip?: readonly ConformanceSkip[];
}

type NamedTest = (name: string, run: () => Promise<void> | void) => void;

/** Returns `it`, but with the named tests skipped for their reason. `done` fails when a skip names no test. */
export function conformanceTests({ skip = [] }: ConformanceOptions): { test: NamedTest; done(): void } {
  const known = new Set<string>();
  const reasonOf = new Map(skip.flatMap(({ tests, reason }) => tests.map((name) => [name, reason] as const)));
  return {
    test(name, run) {
      known.add(name);
      const reason = reasonOf.get(name);
      if (reason === undefined) it(name, run);
      else it.skip(`${name} (skipped: ${reason})`, run);
    },
    done() {
      const unknown = [...reasonOf.keys()].filter((name) => !known.has(name));
      if (unknown.length > 0) throw new Error(`these skips name no test of the suite: ${unknown.join('; ')}`);
    },
  };
}
