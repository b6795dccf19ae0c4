import { describe, expect, it } from 'vitest';
import { MassAudit } from './mass-audit.js';

describe('MassAudit', () => {
  it('is all zeros before anything was added, and plain data always', () => {
    const audit = new MassAudit();
    const zeros = { count: 0, meanAbsoluteError: 0, bias: 0, worst: 0 };
    expect(JSON.parse(JSON.stringify(audit))).toEqual(zeros);
    audit.add(0.75, 0.5);
    expect(JSON.parse(JSON.stringify(audit))).toEqual({ count: 1, meanAbsoluteError: 0.25, bias: 0.25, worst: 0.25 });
  });
  it('keeps the size of errors, their direction, and the worst', () => {
    const audit = new MassAudit();
    for (const [estimated, measured] of [
      [1, 0.5],
      [0.25, 0.5],
      [0.5, 0.5],
      [0.5, 0.75],
    ] as const)
      audit.add(estimated, measured);
    expect(audit).toEqual(Object.assign(new MassAudit(), { count: 4, meanAbsoluteError: 0.25, bias: 0, worst: 0.5 }));
  });
  it.each([
    [Number.NaN, 1],
    [1, Number.POSITIVE_INFINITY],
  ])('refuses %s, %s and changes nothing', (estimated, measured) => {
    const audit = new MassAudit();
    expect(() => audit.add(estimated, measured)).toThrow(expect.objectContaining({ code: 'CTKVR_NON_FINITE' }));
    expect(audit.count).toBe(0);
  });
});
