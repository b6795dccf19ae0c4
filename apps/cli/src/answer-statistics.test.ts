import type { SelectionCounters } from '@ctkvr/core';
import { describe, expect, it } from 'vitest';
import { AnswerMeter, statisticsLine } from './answer-statistics.js';

const step: SelectionCounters = {
  heads: 4,
  keysTotal: 400,
  keysRead: 100,
  valuesRead: 80,
  centroidsProbed: 16,
  candidates: 60,
  selected: 40,
  denseRepairs: 0,
  bytesRead: 5000,
  estimatedMass: 7.2,
  auditedHeads: 0,
  measuredMass: 0,
  auditedEstimatedMass: 0,
  massError: 0,
};

describe('AnswerMeter', () => {
  it('gives the error of the estimated mass over the query heads that were measured', () => {
    const meter = new AnswerMeter(2);
    meter.token(null);
    meter.token({ ...step, auditedHeads: 1, measuredMass: 1.7, auditedEstimatedMass: 1.73, massError: 0.05 });
    meter.token({ ...step, auditedHeads: 1, measuredMass: 1.9, auditedEstimatedMass: 1.9, massError: 0.03 });
    const statistics = meter.statistics(90);
    expect(statistics).toMatchObject({ keysReadPerHead: 25, keysPerHead: 100, bytesReadPerToken: 5000 });
    expect(statistics.estimatedAttentionMass).toBeCloseTo(0.9, 6);
    expect(statistics.attentionMassError).toBeCloseTo(0.02, 6);
    expect(statisticsLine(statistics)).toContain('| estimated attention mass 90.0 ± 2.0 % |');
  });
  it('says nothing of an error that nobody measured', () => {
    const meter = new AnswerMeter(2);
    meter.token(step);
    const statistics = meter.statistics(90);
    expect(statistics.attentionMassError).toBeNull();
    expect(statisticsLine(statistics)).toContain('| estimated attention mass 90.0 % |');
  });
});
