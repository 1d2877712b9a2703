-- cycles in which the array works, and all cycles with DRAM, of ws over os; below 1 ws is ahead
SELECT o.inputs ->> '$."arch.array.rows"' || ' x ' || (o.inputs ->> '$."arch.array.cols"') AS "array",
       o.inputs ->> '$."arch.memories.dram.bytes_per_cycle"' AS "DRAM B/cycle",
       round((w.outputs ->> '$."forward.array_cycles"') / 1.0 / (o.outputs ->> '$."forward.array_cycles"'), 2) AS "forward: array",
       round((w.outputs ->> '$."forward.cycles"') / 1.0 / (o.outputs ->> '$."forward.cycles"'), 2) AS "forward: all",
       round((w.outputs ->> '$."explain.array_cycles"' - (w.outputs ->> '$."forward.array_cycles"')) / 1.0
             / (o.outputs ->> '$."explain.array_cycles"' - (o.outputs ->> '$."forward.array_cycles"')), 2) AS "backward: array",
       round((w.outputs ->> '$."explain.cycles"' - (w.outputs ->> '$."forward.cycles"')) / 1.0
             / (o.outputs ->> '$."explain.cycles"' - (o.outputs ->> '$."forward.cycles"')), 2) AS "backward: all"
FROM points AS o JOIN points AS w ON json_remove(o.inputs, '$."arch.array.dataflow"') = json_remove(w.inputs, '$."arch.array.dataflow"')
WHERE o.inputs ->> '$."arch.array.dataflow"' = 'os' AND w.inputs ->> '$."arch.array.dataflow"' = 'ws'
ORDER BY o.rowid
