-- the board with the fewest DSP blocks that reaches a rate, mapped for the least energy per explanation there
WITH wanted(rate) AS (VALUES (10), (30), (100), (300), (1000)),
     met AS (
       SELECT inputs ->> '$.method' || ifnull(', ' || (inputs ->> '$."method.n_steps"') || ' points', '') AS method,
              inputs, outputs, rate, row_number() OVER (
                PARTITION BY inputs ->> '$.method', inputs ->> '$."method.n_steps"', rate
                ORDER BY outputs ->> 'dsp', outputs ->> 'energy_mj') AS place
       FROM points JOIN wanted ON outputs ->> 'explanations_per_s' >= rate WHERE status = 'done')
SELECT method AS "method", rate AS "wanted, 1/s", inputs ->> '$.arch' AS "board", outputs ->> 'dsp' AS "DSP blocks",
       round(outputs ->> 'explanations_per_s', 1) AS "reached, 1/s", round(outputs ->> 'energy_mj', 2) AS "energy, mJ"
FROM met WHERE place = 1 ORDER BY method, rate
