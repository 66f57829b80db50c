/*
 * A table's schema for consumers that start: more than what its packages carry, and kept in the key-value bucket. It is
 * written to the ring whenever it differs from what was written last, before the packages that use it.
 *
 * No lock is taken on the table, as in all decoding: another session may wait for one, and so would replay on a
 * standby.
 */
#include "table_schema.h"

#include "server/utf8_conversion.h"

extern "C" {
#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_description.h"
#include "nodes/nodes.h"
#include "utils/fmgroids.h"
#include "utils/ruleutils.h"
}

using siphon::Wire;
using siphon::WireBuffer;

static void
put_number(WireBuffer *out, uint32 field, uint64 number)
{
	buffer_reserve(out, 16);
	Wire wire(out);
	wire.varint_field(field, number);
	wire.commit();
}

/* By attribute number, the table's own at 0; NULL: there is none. In one scan, as a look for each took half of the time. */
static char **
comments_of(Relation relation)
{
	int natts = RelationGetDescr(relation)->natts;
	char **comments = static_cast<char **>(palloc0(sizeof(char *) * static_cast<size_t>(natts + 1)));
	Relation catalog = table_open(DescriptionRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_description_objoid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(relation)));
	ScanKeyInit(&keys[1], Anum_pg_description_classoid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	scan = systable_beginscan(catalog, DescriptionObjIndexId, true, nullptr, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int attnum = reinterpret_cast<Form_pg_description>(GETSTRUCT(tuple))->objsubid;
		bool isnull;
		Datum comment = heap_getattr(tuple, Anum_pg_description_description, RelationGetDescr(catalog), &isnull);

		if (!isnull && attnum >= 0 && attnum <= natts)
			comments[attnum] = TextDatumGetCString(comment);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return comments;
}

static void
put_comment(WireBuffer *out, uint32 field, const char *comment)
{
	if (comment)
		put_utf8(out, field, comment);
}

/* The default of a column that is not generated: it names no other column, so the table needs not be looked at. */
static void
put_default(WireBuffer *out, TupleDesc desc, int attnum)
{
	for (int i = 0; desc->constr && i < desc->constr->num_defval; i++)
	{
		const AttrDefault *def = &desc->constr->defval[i];

		if (def->adnum == attnum)
			put_utf8(out, siphon::field::kDefaultExpression,
					 deparse_expression(static_cast<Node *>(stringToNode(def->adbin)), NIL, false, false));
	}
}

WireBuffer
table_schema(const Table *table, Relation relation, const char *application, const ColumnDraft *columns)
{
	WireBuffer out;
	char **comments = comments_of(relation);

	buffer_init(&out, 1024);
	put_utf8(&out, siphon::field::kSchemaApplication, application);
	put_utf8(&out, siphon::field::kSchemaSchema, table->current_name.schema);
	put_utf8(&out, siphon::field::kSchemaTable, table->current_name.name);
	put_number(&out, siphon::field::kSchemaOid, RelationGetRelid(relation));
	put_number(&out, siphon::field::kSchemaPartitions, static_cast<uint64>(table->wanted_partitions));
	put_number(&out, siphon::field::kSchemaGeneration, table->generation);
	put_number(&out, siphon::field::kSchemaGenerationStart, static_cast<uint64>(table->generation_start));
	{
		buffer_reserve(&out, 16);
		Wire wire(&out);
		wire.fixed64_field(siphon::field::kSchemaFingerprint, table->fingerprint);
		wire.commit();
	}
	for (int i = 0; i < table->ncolumns; i++)
	{
		Form_pg_attribute attribute = columns[i].attribute;
		WireBuffer column = columns[i].wire;

		column.data = static_cast<char *>(palloc(column.capacity));
		memcpy(column.data, columns[i].wire.data, column.size);
		if (!attribute->attnotnull)
			put_number(&column, siphon::field::kNullable, 1);
		if (attribute->attgenerated != '\0')
			put_number(&column, siphon::field::kGenerated, 1);
		else if (attribute->atthasdef)
			put_default(&column, RelationGetDescr(relation), attribute->attnum);
		if (attribute->attidentity != '\0')
			put_number(&column, siphon::field::kIdentity, 1);
		put_comment(&column, siphon::field::kColumnComment, comments[attribute->attnum]);
		buffer_reserve(&out, column.size + 16);
		Wire wire(&out);
		wire.bytes_field(siphon::field::kSchemaColumns, column.data, column.size);
		wire.commit();
		pfree(column.data);
	}
	put_comment(&out, siphon::field::kSchemaComment, comments[0]);
	return out;
}
