-- A price that somebody changes in its row is the owner's own from then on: `unitask deploy`, which writes what the code
-- declares, leaves it alone until own_price is false again.
CREATE FUNCTION unitask.own_price() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.own_price := true;
    RETURN NEW;
END $$;

CREATE TRIGGER own_price BEFORE UPDATE ON task_types
    FOR EACH ROW WHEN (
        (OLD.billing_type, OLD.base_cost_per_second, OLD.unit_cost, OLD.cost_factors)
            IS DISTINCT FROM (NEW.billing_type, NEW.base_cost_per_second, NEW.unit_cost, NEW.cost_factors)
        AND current_setting('unitask.syncing', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION unitask.own_price();
